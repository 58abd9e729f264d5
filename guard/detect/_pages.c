/*
 * The loops over the words of a page and over its classes: see guard/detect/pages.py, and for what they count
 * guard.detect.words, guard.detect.familiar and guard.detect.garble, which do the same in Python. Nothing is kept here;
 * all memory is that of Python's objects.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

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

/* Joints, in classes of characters, and what each counts for: as guard.detect.garble has them. */
static const struct {
    const char *text;
    unsigned char size, counts;
} patterns[] = {
    {"aaaaaaaaaaaaaaaa", 16, 1}, {"R", 1, 1},
    {"aca", 3, 1}, {"acA", 3, 1}, {"Aca", 3, 1}, {"AcA", 3, 1}, {" c ", 3, 1}, {" ca", 3, 1}, {" cA", 3, 1},
    {"aA", 2, 1}, {"AAaa", 4, 1}, {"a0", 2, 1}, {"0a", 2, 1},
    {"aqa", 3, 1}, {"aqA", 3, 1}, {"Aqa", 3, 1}, {"AqA", 3, 1},
    {"aoa", 3, 1}, {"aoA", 3, 1}, {"Aoa", 3, 1}, {"AoA", 3, 1}, {"aooa", 4, 1}, {"aooA", 4, 1}, {"Aooa", 4, 1},
    {"aX", 2, 1}, {"AX", 2, 1}, {"Xa", 2, 1}, {"XA", 2, 1}, {"XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX", 32, 2},
    {"aza", 3, 1}, {"azA", 3, 1}, {"Aza", 3, 1},
};
#define PATTERNS ((int)(sizeof(patterns) / sizeof(patterns[0])))
/* Patterns, as bits, that have a class in their first and in their second place. */
static uint32_t first_of[256], second_of[256];

static void fill_patterns(void)
{
    for (int which = 0; which < PATTERNS; which++) {
        first_of[(unsigned char)patterns[which].text[0]] |= UINT32_C(1) << which;
        for (int code = 0; code < 256; code++) {
            if (patterns[which].size == 1 || (unsigned char)patterns[which].text[1] == code) {
                second_of[code] |= UINT32_C(1) << which;
            }
        }
    }
}

/* Of zlib's crc32. */
static uint32_t crcs[256];

static void fill_crcs(void)
{
    for (uint32_t code = 0; code < 256; code++) {
        uint32_t sum = code;
        for (int bit = 0; bit < 8; bit++) {
            sum = (sum >> 1) ^ (sum & 1 ? UINT32_C(0xedb88320) : 0);
        }
        crcs[code] = sum;
    }
}

static void fill(void)
{
    fill_patterns();
    fill_crcs();
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

/* What a scan has found so far; see WordScan.feed. */
typedef struct {
    PyObject *tokens, *last, *open;
    int again;
} Found;

/* A token, whose reference is taken; it may be NULL, with an error. False with an error. */
static int add_token(Found *found, PyObject *token, unsigned char kind)
{
    int good = token != NULL && PyList_Append(found->tokens, token) == 0;
    if (!good || kind == LINE_END) {
        Py_XDECREF(token);
        return good;
    }
    if (!found->again) {
        found->again = PyUnicode_GET_LENGTH(token) == PyUnicode_GET_LENGTH(found->last) &&
                       PyUnicode_Compare(token, found->last) == 0;
    }
    Py_SETREF(found->last, token);
    return 1;
}

/* All tokens of a page of ASCII. False with an error. */
static int scan_ascii(Found *found, PyObject *page)
{
    const Py_UCS1 *text = PyUnicode_1BYTE_DATA(page);
    Py_ssize_t size = PyUnicode_GET_LENGTH(page), at = 0;
    while (at < size) {
        unsigned char kind = kinds[text[at]];
        Py_ssize_t start = at++;
        if (kind == BLANK) {
            continue;
        }
        while (kind != LINE_END && at < size && kinds[text[at]] == kind) {
            at++;
        }
        if (kind == WORD && at == size) {
            found->open = lowered(text + start, at - start); /* it may go on in the next page */
            return found->open != NULL;
        }
        if (!add_token(found, lowered(text + start, at - start), kind)) {
            return 0;
        }
    }
    return 1;
}

/* The same of any characters: a letter in lower case may be longer, and of another kind. */
static int scan_any(Found *found, PyObject *page, PyObject *text)
{
    Py_ssize_t size = PyUnicode_GET_LENGTH(text), at = 0;
    int form = PyUnicode_KIND(text);
    const void *data = PyUnicode_DATA(text);
    while (at < size) {
        unsigned char kind = kind_of(PyUnicode_READ(form, data, at));
        Py_ssize_t start = at++;
        if (kind == BLANK) {
            continue;
        }
        while (kind != LINE_END && at < size && kind_of(PyUnicode_READ(form, data, at)) == kind) {
            at++;
        }
        if (at == size && kind_of(PyUnicode_READ_CHAR(page, PyUnicode_GET_LENGTH(page) - 1)) == WORD) {
            found->open = PyUnicode_Substring(text, start, at); /* it may go on in the next page */
            return found->open != NULL;
        }
        if (!add_token(found, PyUnicode_Substring(text, start, at), kind)) {
            return 0;
        }
    }
    return 1;
}

/* scan(text, last): (tokens, open, last, again), see WordScan.feed. */
static PyObject *scan(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    Found found = {NULL, NULL, NULL, 0};
    PyObject *text = NULL, *made = NULL;
    int good;
    if (count != 2 || !PyUnicode_CheckExact(args[0]) || !PyUnicode_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "scan(text, last) takes two strings");
        return NULL;
    }
    found.tokens = PyList_New(0);
    found.last = Py_NewRef(args[1]);
    if (found.tokens == NULL) {
        good = 0;
    } else if (PyUnicode_IS_ASCII(args[0])) {
        good = scan_ascii(&found, args[0]);
    } else {
        text = PyObject_CallMethodNoArgs(args[0], to_lower);
        good = text != NULL && scan_any(&found, args[0], text);
    }
    if (good && found.open == NULL) {
        found.open = PyUnicode_New(0, 0);
        good = found.open != NULL;
    }
    if (good) {
        made = Py_BuildValue("(OOOO)", found.tokens, found.open, found.last, found.again ? Py_True : Py_False);
    }
    Py_XDECREF(text);
    Py_XDECREF(found.open);
    Py_XDECREF(found.last);
    Py_XDECREF(found.tokens);
    return made;
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

/* Whether a string is nothing but letters, as str.isalpha tells. */
static int is_word(PyObject *token)
{
    Py_ssize_t size = PyUnicode_GET_LENGTH(token);
    int kind = PyUnicode_KIND(token);
    const void *data = PyUnicode_DATA(token);
    for (Py_ssize_t at = 0; at < size; at++) {
        Py_UCS4 code = PyUnicode_READ(kind, data, at);
        if (code < 128 ? !((code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z')) : !Py_UNICODE_ISALPHA(code)) {
            return 0;
        }
    }
    return size > 0;
}

/* What a FamiliarScan has found so far; see there. */
typedef struct {
    PyObject *table, *places, *remember, *clause;
    long first, second, number, run, said, clause_words, clause_familiar, words, familiar, fresh;
} Scan;

/* Words after which a clause counts as ended, characters that it must have to be compared as a whole. */
#define LONGEST_CLAUSE 24
#define LEAST_CLAUSE 8
#define COUNTER_DIGITS 9

/* The table's bytes; NULL with an error: whoever was asked for a place might have done anything to it. */
static unsigned char *slots_of(const Scan *scan)
{
    if (PyByteArray_GET_SIZE(scan->table) != SLOTS) {
        PyErr_SetString(PyExc_ValueError, "a table of 8192 places");
        return NULL;
    }
    return (unsigned char *)PyByteArray_AS_STRING(scan->table);
}

/* Count one more in a place; how often it was counted before, at most four. */
static int count_one(unsigned char *slots, long place)
{
    unsigned char said = slots[place];
    if ((said & LATE) < TWICE) {
        slots[place] = (unsigned char)(said + 1);
    }
    return (said & LATE) + (said >> SHIFT & LATE);
}

/* Note a word or a number; whether it is new. */
static int is_new(unsigned char *slots, long place)
{
    unsigned char said = slots[place];
    slots[place] = (unsigned char)(said | WORD_LATE);
    return !(said & (WORD_LATE | WORD_BEFORE));
}

static long phrase_of(const Scan *scan, long word)
{
    return (scan->first * 37 + scan->second * 11 + word) & MASK;
}

/* zlib's crc32 of text that follows other text, before its last turn. */
static uint32_t hash_of(const unsigned char *text, Py_ssize_t size, uint32_t sum)
{
    for (Py_ssize_t at = 0; at < size; at++) {
        sum = crcs[(sum ^ text[at]) & 0xff] ^ (sum >> 8);
    }
    return sum;
}

/* The clause is over: FamiliarScan._end_clause. False with an error. */
static int end_clause(Scan *scan, int whole)
{
    Py_ssize_t parts = PyList_GET_SIZE(scan->clause);
    if (scan->clause_words) {
        long familiar = scan->clause_familiar;
        if (whole && familiar < scan->clause_words) {
            uint32_t sum = 0xffffffff;
            Py_ssize_t characters = 0;
            unsigned char *slots = slots_of(scan);
            if (slots == NULL) {
                return 0;
            }
            for (Py_ssize_t part = 0; part < parts; part++) {
                Py_ssize_t size;
                PyObject *word = PyList_GET_ITEM(scan->clause, part);
                const char *text = PyUnicode_Check(word) ? PyUnicode_AsUTF8AndSize(word, &size) : NULL;
                if (text == NULL) {
                    if (!PyErr_Occurred()) {
                        PyErr_SetString(PyExc_TypeError, "a clause is a list of strings");
                    }
                    return 0;
                }
                characters += PyUnicode_GET_LENGTH(word) + 1;
                sum = hash_of((const unsigned char *)text, size, sum);
                sum = hash_of((const unsigned char *)" ", 1, sum);
            }
            if (!parts) { /* an empty clause and the blank behind it */
                characters = 1;
                sum = hash_of((const unsigned char *)" ", 1, sum);
            }
            if (characters > LEAST_CLAUSE && count_one(slots, (long)(~sum & MASK)) >= TWICE) {
                familiar = scan->clause_words;
            }
        }
        scan->words += scan->clause_words;
        scan->familiar += familiar;
        scan->clause_words = scan->clause_familiar = 0;
    }
    return !parts || PyList_SetSlice(scan->clause, 0, parts, NULL) == 0;
}

/* One word, and the phrase of three that it ends. False with an error. */
static int say_word(Scan *scan, PyObject *token)
{
    long word = place_of_word(scan->places, scan->remember, token);
    unsigned char *slots = word < 0 ? NULL : slots_of(scan);
    if (slots == NULL) {
        return 0;
    }
    scan->fresh += is_new(slots, word);
    scan->clause_familiar += count_one(slots, phrase_of(scan, word)) >= TWICE;
    scan->first = scan->second;
    scan->second = word;
    scan->clause_words += 1;
    scan->said += 1;
    return PyList_Append(scan->clause, token) == 0;
}

/* A row of words is over: FamiliarScan._spoke. False with an error. */
static int end_row(Scan *scan)
{
    scan->run = 0;
    return scan->clause_words < LONGEST_CLAUSE || end_clause(scan, 0);
}

/* A number, or a word with digits in it: FamiliarScan._mixed. False with an error. */
static int say_mixed(Scan *scan, PyObject *token)
{
    Py_ssize_t size = PyUnicode_GET_LENGTH(token), base = size;
    int kind = PyUnicode_KIND(token), counter, done;
    const void *text = PyUnicode_DATA(token);
    unsigned char *slots;
    PyObject *part;
    long number = -1, key = 1;
    while (base && PyUnicode_READ(kind, text, base - 1) >= '0' && PyUnicode_READ(kind, text, base - 1) <= '9') {
        base--;
    }
    if (base) {
        part = PyUnicode_Substring(token, 0, base);
        done = part != NULL && say_word(scan, part) && end_row(scan);
        Py_XDECREF(part);
        if (!done || base == size) {
            return done;
        }
    }
    if (size - base <= COUNTER_DIGITS) {
        number = 0;
        for (Py_ssize_t at = base; at < size; at++) {
            number = number * 10 + (long)(PyUnicode_READ(kind, text, at) - '0');
        }
    }
    slots = slots_of(scan);
    if (slots == NULL) {
        return 0;
    }
    counter = number == scan->number + 1 && number > 0;
    scan->number = number;
    scan->run = counter ? scan->run + 1 : 0;
    if (!counter) {
        uint32_t sum = 0xffffffff;
        for (Py_ssize_t at = base; at < size; at++) {
            const unsigned char digit = (unsigned char)PyUnicode_READ(kind, text, at);
            sum = hash_of(&digit, 1, sum);
        }
        key = (long)(~sum & MASK);
        scan->fresh += is_new(slots, key);
    }
    count_one(slots, phrase_of(scan, key));
    scan->first = scan->second;
    scan->second = key;
    scan->said += 1;
    part = counter ? PyUnicode_FromString("#") : PyUnicode_Substring(token, base, size);
    done = part != NULL && PyList_Append(scan->clause, part) == 0;
    Py_XDECREF(part);
    return done;
}

/* Whether one of the marks ends a clause. */
static int is_end(PyObject *token)
{
    static const Py_UCS4 ends[] = {
        '\n', '.', '!', '?', ';', '|', ',', ':', 0x3002, 0xff0c, 0x3001, 0xff01, 0xff1f, 0xff1b,
    };
    for (Py_ssize_t at = 0; at < PyUnicode_GET_LENGTH(token); at++) {
        Py_UCS4 code = PyUnicode_READ_CHAR(token, at);
        for (size_t end = 0; end < sizeof(ends) / sizeof(ends[0]); end++) {
            if (code == ends[end]) {
                return 1;
            }
        }
    }
    return 0;
}

/* All tokens of a page. False with an error. */
static int say_all(Scan *scan, PyObject *tokens)
{
    int row = 0;
    for (Py_ssize_t at = 0; at < PyList_GET_SIZE(tokens); at++) {
        PyObject *token = Py_NewRef(PyList_GET_ITEM(tokens, at));
        int done, word;
        /* Each in its turn: whoever is asked for a place might put in anything. */
        if (!PyUnicode_CheckExact(token) || !PyUnicode_GET_LENGTH(token)) {
            PyErr_SetString(PyExc_TypeError, "tokens are strings, and not empty");
            Py_DECREF(token);
            return 0;
        }
        word = is_word(token);
        done = word || !row || end_row(scan);
        row = word;
        if (!done) {
            /* there is an error */
        } else if (word) {
            done = say_word(scan, token);
        } else if (kind_of(PyUnicode_READ_CHAR(token, 0)) == WORD) {
            done = say_mixed(scan, token);
        } else if (is_end(token)) {
            done = end_clause(scan, 1);
        }
        Py_DECREF(token);
        if (!done) {
            return 0;
        }
    }
    return !row || end_row(scan);
}

/*
 * say(table, places, remember, tokens, clause, first, second, number, run, said, clause_words, clause_familiar):
 * (first, second, number, run, said, clause_words, clause_familiar, words, familiar, fresh), see FamiliarScan.feed.
 */
static PyObject *say(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    Scan scan;
    long *numbers[] = {&scan.number, &scan.run, &scan.said, &scan.clause_words, &scan.clause_familiar};
    if (count != 12 || !PyByteArray_CheckExact(args[0]) || !PyDict_CheckExact(args[1]) || !PyList_CheckExact(args[3]) ||
        !PyList_CheckExact(args[4])) {
        PyErr_SetString(PyExc_TypeError, "say(table, places, remember, tokens, clause, ...) takes twelve");
        return NULL;
    }
    scan.table = args[0];
    scan.places = args[1];
    scan.remember = args[2];
    scan.clause = args[4];
    scan.words = scan.familiar = scan.fresh = 0;
    scan.first = place_of(args[5]);
    scan.second = scan.first < 0 ? -1 : place_of(args[6]);
    if (scan.second < 0) {
        return NULL;
    }
    for (int place = 0; place < 5; place++) {
        *numbers[place] = PyLong_AsLong(args[7 + place]);
        if (*numbers[place] == -1 && PyErr_Occurred()) {
            return NULL;
        }
        if (*numbers[place] < -1 || *numbers[place] > INT32_MAX) {
            PyErr_SetString(PyExc_ValueError, "no count");
            return NULL;
        }
    }
    if (!say_all(&scan, args[3])) {
        return NULL;
    }
    return Py_BuildValue("(llllllllll)", scan.first, scan.second, scan.number, scan.run, scan.said, scan.clause_words,
                         scan.clause_familiar, scan.words, scan.familiar, scan.fresh);
}

/* joints(shape): see guard.detect.garble.joints_in. Each pattern is counted without overlaps, as bytes.count does. */
static PyObject *joints(PyObject *Py_UNUSED(module), PyObject *shape)
{
    Py_ssize_t size, taken[PATTERNS] = {0};
    const unsigned char *text;
    long found = 0;
    if (!PyBytes_CheckExact(shape)) {
        PyErr_SetString(PyExc_TypeError, "joints(shape) takes bytes");
        return NULL;
    }
    text = (const unsigned char *)PyBytes_AS_STRING(shape);
    size = PyBytes_GET_SIZE(shape);
    for (Py_ssize_t at = 0; at < size; at++) {
        /* Behind the last byte stands a zero. */
        uint32_t left = first_of[text[at]] & second_of[text[at + 1]];
        for (int which = 0; left; which++, left >>= 1) {
            if ((left & 1) && at >= taken[which] && size - at >= patterns[which].size &&
                memcmp(text + at, patterns[which].text, patterns[which].size) == 0) {
                found += patterns[which].counts;
                taken[which] = at + patterns[which].size;
            }
        }
    }
    return PyLong_FromLong(found);
}

/* Whether it is a list of lists of strings; else there is an error. */
static int are_pages(PyObject *pages)
{
    int good = PyList_CheckExact(pages);
    for (Py_ssize_t page = 0; good && page < PyList_GET_SIZE(pages); page++) {
        PyObject *tokens = PyList_GET_ITEM(pages, page);
        good = PyList_CheckExact(tokens);
        for (Py_ssize_t at = 0; good && at < PyList_GET_SIZE(tokens); at++) {
            good = PyUnicode_CheckExact(PyList_GET_ITEM(tokens, at));
        }
    }
    if (!good) {
        PyErr_SetString(PyExc_TypeError, "pages are lists of strings");
    }
    return good;
}

/* recur(pages): how many tokens are words, and how many different ones; see WordWindow.value. */
static PyObject *recur(PyObject *Py_UNUSED(module), PyObject *pages)
{
    PyObject *known, *found = NULL;
    Py_ssize_t words = 0;
    if (!are_pages(pages)) {
        return NULL;
    }
    known = PySet_New(NULL);
    if (known == NULL) {
        return NULL;
    }
    for (Py_ssize_t page = 0; page < PyList_GET_SIZE(pages); page++) {
        PyObject *tokens = PyList_GET_ITEM(pages, page);
        for (Py_ssize_t at = 0; at < PyList_GET_SIZE(tokens); at++) {
            PyObject *token = PyList_GET_ITEM(tokens, at);
            if (is_word(token)) {
                words++;
                if (PySet_Add(known, token) < 0) {
                    goto done;
                }
            }
        }
    }
    found = Py_BuildValue("(nn)", words, PySet_GET_SIZE(known));
done:
    Py_DECREF(known);
    return found;
}

/* Whether two tokens side by side clash; -1 with an error. */
static int is_clash(PyObject *clashes, PyObject *first, PyObject *second)
{
    PyObject *pair = PyTuple_Pack(2, first, second);
    int found;
    if (pair == NULL) {
        return -1;
    }
    found = PySet_Contains(clashes, pair);
    Py_DECREF(pair);
    return found;
}

/* clash(pages, parts, clashes): function words and their clashes, see WordWindow.clash; both of a pair are of parts. */
static PyObject *clash(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    PyObject *last = NULL; /* the token before, if it is a function word */
    long functional = 0, found = 0;
    if (count != 3 || !PyDict_CheckExact(args[1]) || !PyFrozenSet_CheckExact(args[2])) {
        PyErr_SetString(PyExc_TypeError, "clash(pages, parts, clashes)");
        return NULL;
    }
    if (!are_pages(args[0])) {
        return NULL;
    }
    for (Py_ssize_t page = 0; page < PyList_GET_SIZE(args[0]); page++) {
        PyObject *tokens = PyList_GET_ITEM(args[0], page);
        for (Py_ssize_t at = 0; at < PyList_GET_SIZE(tokens); at++) {
            PyObject *token = PyList_GET_ITEM(tokens, at);
            int is_part, clashes = 0;
            if (PyUnicode_GET_LENGTH(token) == 1 && PyUnicode_READ_CHAR(token, 0) == '\n') {
                continue;
            }
            is_part = PyDict_Contains(args[1], token);
            if (is_part > 0 && last != NULL) {
                clashes = is_clash(args[2], last, token);
            }
            if (is_part < 0 || clashes < 0) {
                return NULL;
            }
            functional += is_part;
            found += clashes;
            last = is_part ? token : NULL;
        }
    }
    return Py_BuildValue("(ll)", functional, found);
}

/* See guard.detect.texture.longest_word. */
static PyObject *longest(PyObject *Py_UNUSED(module), PyObject *shape)
{
    Py_ssize_t size, run = 0, most = 0;
    const char *text;
    if (!PyBytes_CheckExact(shape)) {
        PyErr_SetString(PyExc_TypeError, "longest(shape) takes bytes");
        return NULL;
    }
    text = PyBytes_AS_STRING(shape);
    size = PyBytes_GET_SIZE(shape);
    for (Py_ssize_t place = 0; place < size; place++) {
        run = text[place] == 'a' ? run + 1 : 0;
        most = run > most ? run : most;
    }
    return PyLong_FromSsize_t(most);
}

static PyMethodDef methods[] = {
    {"joints", (PyCFunction)joints, METH_O, "Joints in a stretch of text given as classes."},
    {"longest", (PyCFunction)longest, METH_O, "Characters of the longest row of small letters given as classes."},
    {"recur", (PyCFunction)recur, METH_O, "How many words are on pages, and how many different ones."},
    {"clash", (PyCFunction)(void (*)(void))clash, METH_FASTCALL, "Function words of pages, and those that clash."},
    {"scan", (PyCFunction)(void (*)(void))scan, METH_FASTCALL, "The words of a page."},
    {"say", (PyCFunction)(void (*)(void))say, METH_FASTCALL, "Count the words of a page, and the phrases and clauses that they end."},
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
