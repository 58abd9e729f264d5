/*
 * The two loops over the words of a page: see guard/detect/pages.py, and for what they count guard.detect.words and
 * guard.detect.familiar, which do the same in Python. Nothing is kept here; all memory is that of Python's objects.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* As guard.detect.familiar has them. */
#define SLOTS 8192
#define MASK (SLOTS - 1)
#define LATE 3
#define SHIFT 2
#define TWICE 2
#define WORD_LATE 0x10
#define WORD_BEFORE 0x20

enum { BLANK, WORD, MARK, LINE_END };

static unsigned char kinds[128];
static char lower[128];
/* The name of str.lower. Made anew for each call, Python's cache of methods would fill with it. */
static PyObject *to_lower;

static void fill(void)
{
    for (int code = 0; code < 128; code++) {
        int upper = code >= 'A' && code <= 'Z';
        int letter = upper || (code >= 'a' && code <= 'z') || (code >= '0' && code <= '9') || code == '_';
        /* What str.isspace takes for a blank. */
        int blank = code == ' ' || (code >= '\t' && code <= '\r') || (code >= 0x1c && code <= 0x1f);
        kinds[code] = letter ? WORD : code == '\n' ? LINE_END : blank ? BLANK : MARK;
        lower[code] = (char)(upper ? code + ('a' - 'A') : code);
    }
}

/* A string of ASCII, in lower case. */
static PyObject *lowered(const Py_UCS1 *text, Py_ssize_t size)
{
    PyObject *made = PyUnicode_New(size, 127);
    if (made != NULL) {
        Py_UCS1 *to = PyUnicode_1BYTE_DATA(made);
        for (Py_ssize_t place = 0; place < size; place++) {
            to[place] = (Py_UCS1)lower[text[place]];
        }
    }
    return made;
}

/* What the regular expressions of guard.detect.words take a character for. */
static unsigned char kind_of(Py_UCS4 code)
{
    if (code < 128) {
        return kinds[code];
    }
    return Py_UNICODE_ISALNUM(code) ? WORD : Py_UNICODE_ISSPACE(code) ? BLANK : MARK;
}

/* The same as scan for text of any characters: a letter in lower case may be longer, and of another kind. */
static PyObject *any_scan(PyObject *page, PyObject *before)
{
    PyObject *text = PyObject_CallMethodNoArgs(page, to_lower), *tokens, *open = NULL, *last, *found = NULL;
    Py_ssize_t size, at = 0;
    int again = 0, form;
    const void *data;
    if (text == NULL) {
        return NULL;
    }
    tokens = PyList_New(0);
    if (tokens == NULL) {
        Py_DECREF(text);
        return NULL;
    }
    last = Py_NewRef(before);
    size = PyUnicode_GET_LENGTH(text);
    form = PyUnicode_KIND(text);
    data = PyUnicode_DATA(text);
    while (at < size) {
        unsigned char kind = kind_of(PyUnicode_READ(form, data, at));
        Py_ssize_t start = at++;
        PyObject *token;
        if (kind == BLANK) {
            continue;
        }
        while (kind != LINE_END && at < size && kind_of(PyUnicode_READ(form, data, at)) == kind) {
            at++;
        }
        token = PyUnicode_Substring(text, start, at);
        if (token == NULL) {
            goto done;
        }
        if (at == size && kind_of(PyUnicode_READ_CHAR(page, PyUnicode_GET_LENGTH(page) - 1)) == WORD) {
            open = token; /* it may go on in the next page */
            break;
        }
        if (PyList_Append(tokens, token) < 0) {
            Py_DECREF(token);
            goto done;
        }
        if (kind == LINE_END) {
            Py_DECREF(token);
            continue;
        }
        if (!again) {
            again = PyUnicode_GET_LENGTH(token) == PyUnicode_GET_LENGTH(last) && PyUnicode_Compare(token, last) == 0;
        }
        Py_SETREF(last, token);
    }
    if (open == NULL) {
        open = PyUnicode_New(0, 0);
        if (open == NULL) {
            goto done;
        }
    }
    found = Py_BuildValue("(OOOO)", tokens, open, last, again ? Py_True : Py_False);
done:
    Py_XDECREF(open);
    Py_DECREF(last);
    Py_DECREF(tokens);
    Py_DECREF(text);
    return found;
}

/* scan(text, last): (tokens, open, last, again), see WordScan.feed. */
static PyObject *scan(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    PyObject *tokens, *open = NULL, *last, *found = NULL;
    const Py_UCS1 *text;
    Py_ssize_t size, at = 0;
    int again = 0;
    if (count != 2 || !PyUnicode_CheckExact(args[0]) || !PyUnicode_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "scan(text, last) takes two strings");
        return NULL;
    }
    if (!PyUnicode_IS_ASCII(args[0])) {
        return any_scan(args[0], args[1]);
    }
    text = PyUnicode_1BYTE_DATA(args[0]);
    size = PyUnicode_GET_LENGTH(args[0]);
    tokens = PyList_New(0);
    if (tokens == NULL) {
        return NULL;
    }
    last = Py_NewRef(args[1]);
    while (at < size) {
        unsigned char kind = kinds[text[at]];
        Py_ssize_t start = at++;
        PyObject *token;
        if (kind == BLANK) {
            continue;
        }
        while (kind != LINE_END && at < size && kinds[text[at]] == kind) {
            at++;
        }
        token = lowered(text + start, at - start);
        if (token == NULL) {
            goto done;
        }
        if (kind == WORD && at == size) {
            open = token; /* it may go on in the next page */
            break;
        }
        if (PyList_Append(tokens, token) < 0) {
            Py_DECREF(token);
            goto done;
        }
        if (kind == LINE_END) {
            Py_DECREF(token);
            continue;
        }
        if (!again) {
            again = PyUnicode_GET_LENGTH(token) == PyUnicode_GET_LENGTH(last) && PyUnicode_Compare(token, last) == 0;
        }
        Py_SETREF(last, token);
    }
    if (open == NULL) {
        open = PyUnicode_New(0, 0);
        if (open == NULL) {
            goto done;
        }
    }
    found = Py_BuildValue("(OOOO)", tokens, open, last, again ? Py_True : Py_False);
done:
    Py_XDECREF(open);
    Py_DECREF(last);
    Py_DECREF(tokens);
    return found;
}

/* A place in the table that came from outside; -1 with an error. */
static long place_of(PyObject *number)
{
    long place = PyLong_AsLong(number);
    if (place == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (place < 0 || place >= SLOTS) {
        PyErr_SetString(PyExc_ValueError, "no place in the table");
        return -1;
    }
    return place;
}

/* Place of a word: from those met of late, else from who works it out; -1 with an error. */
static long place_of_word(PyObject *places, PyObject *remember, PyObject *word)
{
    long place;
    PyObject *known = PyDict_GetItemWithError(places, word);
    if (known != NULL) {
        return place_of(known);
    }
    if (PyErr_Occurred()) {
        return -1;
    }
    known = PyObject_CallOneArg(remember, word);
    if (known == NULL) {
        return -1;
    }
    place = place_of(known);
    Py_DECREF(known);
    return place;
}

/* say(table, places, remember, spoken, first, second): (first, second, fresh, familiar), see FamiliarScan._say. */
static PyObject *say(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    PyObject *table, *spoken;
    long first, second, fresh = 0, familiar = 0;
    if (count != 6 || !PyByteArray_CheckExact(args[0]) || !PyDict_CheckExact(args[1]) || !PyList_CheckExact(args[3])) {
        PyErr_SetString(PyExc_TypeError, "say(table, places, remember, spoken, first, second)");
        return NULL;
    }
    table = args[0];
    spoken = args[3];
    first = place_of(args[4]);
    second = first < 0 ? -1 : place_of(args[5]);
    if (second < 0) {
        return NULL;
    }
    for (Py_ssize_t at = 0; at < PyList_GET_SIZE(spoken); at++) {
        PyObject *token = Py_NewRef(PyList_GET_ITEM(spoken, at));
        long word = place_of_word(args[1], args[2], token), phrase;
        unsigned char *slots, said;
        Py_DECREF(token);
        if (word < 0) {
            return NULL;
        }
        /* Whoever was asked for the place might have done anything to it. */
        if (PyByteArray_GET_SIZE(table) != SLOTS) {
            PyErr_SetString(PyExc_ValueError, "a table of 8192 places");
            return NULL;
        }
        slots = (unsigned char *)PyByteArray_AS_STRING(table);
        said = slots[word];
        if (!(said & WORD_LATE)) {
            slots[word] = (unsigned char)(said | WORD_LATE);
            fresh += !(said & WORD_BEFORE);
        }
        phrase = (first * 37 + second * 11 + word) & MASK;
        first = second;
        second = word;
        said = slots[phrase];
        familiar += (said & LATE) + (said >> SHIFT & LATE) >= TWICE;
        if ((said & LATE) < TWICE) {
            slots[phrase] = (unsigned char)(said + 1);
        }
    }
    return Py_BuildValue("(llll)", first, second, fresh, familiar);
}

static PyMethodDef methods[] = {
    {"scan", (PyCFunction)(void (*)(void))scan, METH_FASTCALL, "The words of a page."},
    {"say", (PyCFunction)(void (*)(void))say, METH_FASTCALL, "Count words and the phrases of three that they end."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "guard.detect._pages", NULL, -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__pages(void)
{
    fill();
    if (to_lower == NULL) {
        to_lower = PyUnicode_InternFromString("lower");
    }
    return to_lower == NULL ? NULL : PyModule_Create(&module);
}
