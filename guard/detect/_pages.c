/*
 * The loops over the words of a page and over its classes: see guard/detect/pages.py, and for what they count
 * guard.detect.words, guard.detect.familiar and guard.detect.glance, which do the same in Python. Nothing of a stream is
 * kept here; all memory is that of Python's objects.
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

/* Of each class, as bits: whether it is a mark, and whether it is a letter; as guard.detect.shape has them. */
static unsigned char sorts[256];

static unsigned char kinds[128];
static char lower[128];
/* The name of str.lower. Made anew for each call, Python's cache of methods would fill with it. */
static PyObject *to_lower;

/* Joints, in classes of characters, and of which kind each is: as guard.detect.glance has them. */
static const struct {
    const char *text;
    unsigned char size, kind;
} patterns[] = {
    {"R", 1, 0},
    {"aca", 3, 1}, {"acA", 3, 1}, {"Aca", 3, 1}, {"AcA", 3, 1}, {" c ", 3, 2}, {" ca", 3, 2}, {" cA", 3, 2},
    {"aA", 2, 3}, {"AAaa", 4, 4}, {"a0", 2, 5}, {"0a", 2, 5},
    {"aqa", 3, 6}, {"aqA", 3, 6}, {"Aqa", 3, 6}, {"AqA", 3, 6},
    {"aoa", 3, 7}, {"aoA", 3, 7}, {"Aoa", 3, 7}, {"AoA", 3, 7}, {"aooa", 4, 7}, {"aooA", 4, 7}, {"Aooa", 4, 7},
    {"aX", 2, 8}, {"AX", 2, 8}, {"Xa", 2, 8}, {"XA", 2, 8},
    {"aza", 3, 9}, {"azA", 3, 9}, {"Aza", 3, 9},
};
#define PATTERNS ((int)(sizeof(patterns) / sizeof(patterns[0])))
/* And rows of one class: of small letters as long as this are one joint, and a kind; foreign ones count for two. */
#define GLUED 16
#define GLUED_KIND 10
#define UNBROKEN 32
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
    for (int code = 0; code < 256; code++) {
        int mark = code == 0 || strchr("aA0 lzXR", code) == NULL;
        int letter = code == 0 || strchr("0 cbqonszR", code) == NULL;
        sorts[code] = (unsigned char)(mark | letter << 1);
    }
    for (int code = 0; code < 128; code++) {
        int upper = code >= 'A' && code <= 'Z';
        int letter = upper || (code >= 'a' && code <= 'z') || (code >= '0' && code <= '9') || code == '_';
        /* What str.isspace takes for a blank. */
        int blank = code == ' ' || (code >= '\t' && code <= '\r') || (code >= 0x1c && code <= 0x1f);
        kinds[code] = letter ? WORD : code == '\n' ? LINE_END : blank ? BLANK : MARK;
        lower[code] = (char)(upper ? code + ('a' - 'A') : code);
    }
}

/*
 * Words met of late, in all streams: most words are one of few. A stream keeps those of its latest pages, so that one
 * that is the same object for all is likely to be in the processor's caches when it is looked at again.
 */
#define MET 2048
#define SHORT 16
static PyObject *met[MET];

/* A string of ASCII, in lower case; the one met before, if it is still known. */
static PyObject *lowered(const Py_UCS1 *text, Py_ssize_t size)
{
    Py_UCS1 word[SHORT];
    uint32_t sum = 0;
    PyObject *made;
    if (size > SHORT) {
        made = PyUnicode_New(size, 127);
        for (Py_ssize_t place = 0; made != NULL && place < size; place++) {
            PyUnicode_1BYTE_DATA(made)[place] = (Py_UCS1)lower[text[place]];
        }
        return made;
    }
    for (Py_ssize_t place = 0; place < size; place++) {
        word[place] = (Py_UCS1)lower[text[place]];
        sum = sum * 31 + word[place];
    }
    sum = (sum ^ sum >> 11) & (MET - 1);
    made = met[sum];
    if (made == NULL || PyUnicode_GET_LENGTH(made) != size || memcmp(PyUnicode_1BYTE_DATA(made), word, size) != 0) {
        made = PyUnicode_New(size, 127);
        if (made == NULL) {
            return NULL;
        }
        memcpy(PyUnicode_1BYTE_DATA(made), word, size);
        Py_XSETREF(met[sum], made);
    }
    return Py_NewRef(made);
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

/* A tuple of numbers; NULL with an error. */
static PyObject *tuple_of(const long *numbers, Py_ssize_t count)
{
    PyObject *made = PyTuple_New(count);
    for (Py_ssize_t place = 0; made != NULL && place < count; place++) {
        PyObject *number = PyLong_FromLong(numbers[place]);
        if (number == NULL) {
            Py_CLEAR(made);
            break;
        }
        PyTuple_SET_ITEM(made, place, number);
    }
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
    unsigned char *slots;
    long first, second, number, run, said, clause_words, clause_familiar, clause_size, words, familiar, fresh;
    uint32_t clause_sum;
} Scan;

/* Words after which a clause counts as ended, characters that it must have to be compared as a whole. */
#define LONGEST_CLAUSE 24
#define LEAST_CLAUSE 8
#define COUNTER_DIGITS 9

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

/* zlib's crc32 of text that follows other text, of which it is `sum`. */
static uint32_t sum_of(const unsigned char *text, Py_ssize_t size, uint32_t sum)
{
    sum = ~sum;
    for (Py_ssize_t at = 0; at < size; at++) {
        sum = crcs[(sum ^ text[at]) & 0xff] ^ (sum >> 8);
    }
    return ~sum;
}

/* The clause is over: FamiliarScan._end_clause. */
static void end_clause(Scan *scan, int whole)
{
    if (scan->clause_words) {
        long familiar = scan->clause_familiar;
        if (whole && familiar < scan->clause_words && scan->clause_size > LEAST_CLAUSE &&
            count_one(scan->slots, (long)(scan->clause_sum & MASK)) >= TWICE) {
            familiar = scan->clause_words;
        }
        scan->words += scan->clause_words;
        scan->familiar += familiar;
        scan->clause_words = scan->clause_familiar = 0;
    }
    scan->clause_size = 0;
    scan->clause_sum = 0;
}

/* Part of a clause, in UTF-8 and as characters, with the blank behind it. */
static void add_part(Scan *scan, const unsigned char *text, Py_ssize_t size, Py_ssize_t characters)
{
    scan->clause_sum = sum_of((const unsigned char *)" ", 1, sum_of(text, size, scan->clause_sum));
    scan->clause_size += (long)characters + 1;
}

/* One word, and the phrase of three that it ends. */
static void say_word(Scan *scan, const unsigned char *text, Py_ssize_t size, Py_ssize_t characters)
{
    long word = (long)(sum_of(text, size, 0) & MASK);
    scan->fresh += is_new(scan->slots, word);
    scan->clause_familiar += count_one(scan->slots, phrase_of(scan, word)) >= TWICE;
    scan->first = scan->second;
    scan->second = word;
    scan->clause_words += 1;
    scan->said += 1;
    add_part(scan, text, size, characters);
}

/* A row of words is over: FamiliarScan._say, at its end. */
static void end_row(Scan *scan)
{
    scan->run = 0;
    if (scan->clause_words >= LONGEST_CLAUSE) {
        end_clause(scan, 0);
    }
}

/* A number, or a word with digits in it: FamiliarScan._mixed. Digits are one byte each, in UTF-8 as well. */
static void say_mixed(Scan *scan, const unsigned char *text, Py_ssize_t size, Py_ssize_t characters)
{
    Py_ssize_t base = size, digits;
    long number = -1, key = 1;
    int counter;
    while (base && text[base - 1] >= '0' && text[base - 1] <= '9') {
        base--;
    }
    digits = size - base;
    if (base) {
        say_word(scan, text, base, characters - digits);
        end_row(scan);
        if (!digits) {
            return;
        }
    }
    if (digits <= COUNTER_DIGITS) {
        number = 0;
        for (Py_ssize_t at = base; at < size; at++) {
            number = number * 10 + (long)(text[at] - '0');
        }
    }
    counter = number == scan->number + 1 && number > 0;
    scan->number = number;
    scan->run = counter ? scan->run + 1 : 0;
    if (!counter) {
        key = (long)(sum_of(text + base, digits, 0) & MASK);
        scan->fresh += is_new(scan->slots, key);
    }
    count_one(scan->slots, phrase_of(scan, key));
    scan->first = scan->second;
    scan->second = key;
    scan->said += 1;
    if (counter) {
        add_part(scan, (const unsigned char *)"#", 1, 1);
    } else {
        add_part(scan, text + base, digits, digits);
    }
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
        PyObject *token = PyList_GET_ITEM(tokens, at);
        const char *text;
        Py_ssize_t size, characters;
        int word;
        if (!PyUnicode_CheckExact(token) || !PyUnicode_GET_LENGTH(token)) {
            PyErr_SetString(PyExc_TypeError, "tokens are strings, and not empty");
            return 0;
        }
        characters = PyUnicode_GET_LENGTH(token);
        word = is_word(token);
        if (row && !word) {
            end_row(scan);
        }
        row = word;
        if (!word && kind_of(PyUnicode_READ_CHAR(token, 0)) != WORD) {
            if (is_end(token)) {
                end_clause(scan, 1);
            }
            continue;
        }
        text = PyUnicode_AsUTF8AndSize(token, &size);
        if (text == NULL) {
            return 0;
        }
        (word ? say_word : say_mixed)(scan, (const unsigned char *)text, size, characters);
    }
    if (row) {
        end_row(scan);
    }
    return 1;
}

/* Arguments of `say` behind the tokens, and what it returns: numbers. */
#define SAID 9
#define FOUND 12

/*
 * say(table, tokens, first, second, number, run, said, clause_words, clause_familiar, clause_size, clause_sum): the same
 * numbers after the page, and words, familiar, fresh; see FamiliarScan.feed.
 */
static PyObject *say(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    Scan scan = {0};
    long sum, *numbers[] = {&scan.number,         &scan.run,         &scan.said, &scan.clause_words,
                            &scan.clause_familiar, &scan.clause_size, &sum};
    if (count != 2 + SAID || !PyByteArray_CheckExact(args[0]) || PyByteArray_GET_SIZE(args[0]) != SLOTS ||
        !PyList_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "say(table of 8192 places, tokens, ...) takes eleven");
        return NULL;
    }
    scan.slots = (unsigned char *)PyByteArray_AS_STRING(args[0]);
    scan.first = place_of(args[2]);
    scan.second = scan.first < 0 ? -1 : place_of(args[3]);
    if (scan.second < 0) {
        return NULL;
    }
    for (int place = 0; place < SAID - 2; place++) {
        *numbers[place] = PyLong_AsLong(args[4 + place]);
        if (*numbers[place] == -1 && PyErr_Occurred()) {
            return NULL;
        }
        if (*numbers[place] < -1 || *numbers[place] > (place < SAID - 3 ? INT32_MAX : UINT32_MAX)) {
            PyErr_SetString(PyExc_ValueError, "no count");
            return NULL;
        }
    }
    scan.clause_sum = (uint32_t)sum;
    if (!say_all(&scan, args[1])) {
        return NULL;
    }
    return tuple_of(
        (long[FOUND]){scan.first, scan.second, scan.number, scan.run, scan.said, scan.clause_words,
                      scan.clause_familiar, scan.clause_size, (long)scan.clause_sum, scan.words, scan.familiar,
                      scan.fresh},
        FOUND);
}

/* Joints in a stretch of classes; behind its last byte another may be read. */
static long count_joints(const unsigned char *text, Py_ssize_t size)
{
    Py_ssize_t taken[PATTERNS] = {0}, row = 0;
    long found = 0;
    for (Py_ssize_t at = 0; at < size; at++) {
        uint32_t left = first_of[text[at]] & second_of[text[at + 1]];
        if (at && text[at] != text[at - 1]) {
            row = 0;
        }
        row++;
        if (row >= GLUED) {
            found += text[at] == 'a' && row % GLUED == 0;
            found += text[at] == 'X' && row % UNBROKEN == 0 ? 2 : 0;
        }
        for (; left; left &= left - 1) {
            int which = __builtin_ctz(left);
            if (at >= taken[which] && size - at >= patterns[which].size &&
                memcmp(text + at, patterns[which].text, patterns[which].size) == 0) {
                found++;
                taken[which] = at + patterns[which].size;
            }
        }
    }
    return found;
}

/* joints(shape): see guard.detect.garble.joints_in. Each pattern is counted without overlaps, as bytes.count does. */
static PyObject *joints(PyObject *Py_UNUSED(module), PyObject *shape)
{
    if (!PyBytes_CheckExact(shape)) {
        PyErr_SetString(PyExc_TypeError, "joints(shape) takes bytes");
        return NULL;
    }
    /* Behind the last byte stands a zero. */
    return PyLong_FromLong(count_joints((const unsigned char *)PyBytes_AS_STRING(shape), PyBytes_GET_SIZE(shape)));
}

/* kinds(shape): see guard.detect.glance.kinds_in. */
static PyObject *kinds_of(PyObject *Py_UNUSED(module), PyObject *shape)
{
    uint32_t found = 0;
    Py_ssize_t row = 0;
    if (!PyBytes_CheckExact(shape)) {
        PyErr_SetString(PyExc_TypeError, "kinds(shape) takes bytes");
        return NULL;
    }
    const unsigned char *text = (const unsigned char *)PyBytes_AS_STRING(shape);
    Py_ssize_t size = PyBytes_GET_SIZE(shape);
    for (Py_ssize_t at = 0; at < size; at++) {
        row = text[at] == 'a' ? row + 1 : 0;
        found |= (uint32_t)(row >= GLUED) << GLUED_KIND;
        /* Behind the last byte stands a zero, which no pattern has. */
        for (uint32_t left = first_of[text[at]] & second_of[text[at + 1]]; left; left &= left - 1) {
            int which = __builtin_ctz(left);
            if (size - at >= patterns[which].size &&
                memcmp(text + at, patterns[which].text, patterns[which].size) == 0) {
                found |= UINT32_C(1) << patterns[which].kind;
            }
        }
    }
    return PyLong_FromLong(__builtin_popcount(found));
}

/* Characters of the page before that belong to a joint, or to a row of letters. */
#define OVERLAP 2
#define REACH 19
/* Longest page, with what is before it. */
#define LONGEST_PAGE 512

/* glance(tail, shape): marks, letters, the longest row of small letters, joints, rare ones; see guard.detect.glance. */
static PyObject *glance(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    unsigned char text[REACH + LONGEST_PAGE + 1];
    Py_ssize_t before, size, overlap;
    long marks = 0, letters = 0, run = 0, most = 0, rare = 0;
    if (count != 2 || !PyBytes_CheckExact(args[0]) || !PyBytes_CheckExact(args[1]) ||
        PyBytes_GET_SIZE(args[0]) > REACH || PyBytes_GET_SIZE(args[1]) > LONGEST_PAGE) {
        PyErr_SetString(PyExc_TypeError, "glance(tail, shape) takes two bytes, of 19 and 512 at most");
        return NULL;
    }
    before = PyBytes_GET_SIZE(args[0]);
    size = PyBytes_GET_SIZE(args[1]);
    overlap = before < OVERLAP ? before : OVERLAP;
    memcpy(text, PyBytes_AS_STRING(args[0]), before);
    memcpy(text + before, PyBytes_AS_STRING(args[1]), size + 1);
    for (Py_ssize_t at = 0; at < before + size; at++) {
        unsigned char sort = sorts[text[at]];
        run = text[at] == 'a' ? run + 1 : 0;
        most = run > most ? run : most;
        if (at >= before) {
            marks += sort & 1;
            letters += sort >> 1 & 1;
            rare += text[at] == 'R';
        }
    }
    return tuple_of((long[]){marks, letters, most, count_joints(text + before - overlap, overlap + size), rare}, 5);
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

/* Whether a word is not among those in the table, into which it goes; -1 with an error. There must be room. */
static int is_different(PyObject **table, unsigned int room, PyObject *word)
{
    Py_hash_t hash = PyObject_Hash(word);
    if (hash == -1) {
        return -1;
    }
    for (unsigned int place = (unsigned int)hash & (room - 1); ; place = (place + 1) & (room - 1)) {
        PyObject *known = table[place];
        if (known == NULL) {
            table[place] = word;
            return 1;
        }
        if (known == word || (PyUnicode_GET_LENGTH(known) == PyUnicode_GET_LENGTH(word) &&
                              PyUnicode_Compare(known, word) == 0)) {
            return 0;
        }
    }
}

/* Words of a window that are counted without memory of their own. */
#define FEW 128

/* recur(pages): how many tokens are words, and how many different ones; see WordWindow.value. */
static PyObject *recur(PyObject *Py_UNUSED(module), PyObject *pages)
{
    PyObject *few[2 * FEW] = {NULL}, **table = few, *found = NULL;
    unsigned int room = 2 * FEW;
    Py_ssize_t tokens = 0;
    long words = 0, different = 0;
    if (!are_pages(pages)) {
        return NULL;
    }
    for (Py_ssize_t page = 0; page < PyList_GET_SIZE(pages); page++) {
        tokens += PyList_GET_SIZE(PyList_GET_ITEM(pages, page));
    }
    if (tokens > FEW) {
        while (room / 2 < (size_t)tokens && room < 1u << 30) {
            room *= 2;
        }
        table = PyMem_Calloc(room, sizeof(PyObject *));
        if (table == NULL) {
            return PyErr_NoMemory();
        }
    }
    for (Py_ssize_t page = 0; page < PyList_GET_SIZE(pages); page++) {
        PyObject *row = PyList_GET_ITEM(pages, page);
        for (Py_ssize_t at = 0; at < PyList_GET_SIZE(row); at++) {
            PyObject *token = PyList_GET_ITEM(row, at);
            if (is_word(token)) {
                int fresh = is_different(table, room, token);
                if (fresh < 0) {
                    goto done;
                }
                words++;
                different += fresh;
            }
        }
    }
    found = tuple_of((long[]){words, different}, 2);
done:
    if (table != few) {
        PyMem_Free(table);
    }
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
    return tuple_of((long[]){functional, found}, 2);
}

/* Let go of the words met of late: who measures what a stream holds leaves out what all share. */
static PyObject *forget(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    for (int place = 0; place < MET; place++) {
        Py_CLEAR(met[place]);
    }
    Py_RETURN_NONE;
}

/* Planes of Unicode with letters in use. */
#define KNOWN 0x30000
/* Of each character met so far: its class, and its number in guard.detect.rare, never 0; 0 while it was not met. */
static unsigned char met_class[KNOWN], met_sight[KNOWN];

/* Ask what a character is, and keep it where there is room. False with an error. */
static int ask(PyObject *learn, Py_UCS4 code, unsigned char *class, unsigned char *sight)
{
    PyObject *character = PyUnicode_FromOrdinal((int)code), *told;
    long number;
    if (character == NULL) {
        return 0;
    }
    told = PyObject_CallOneArg(learn, character);
    Py_DECREF(character);
    if (told == NULL) {
        return 0;
    }
    number = PyLong_AsLong(told);
    Py_DECREF(told);
    if (number < 0 || number > 0xffff || !(number & 0xff)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "class << 8 | sight, which is not 0");
        }
        return 0;
    }
    *class = (unsigned char)(number >> 8);
    *sight = (unsigned char)(number & 0xff);
    if (code < KNOWN) {
        met_class[code] = *class;
        met_sight[code] = *sight;
    }
    return 1;
}

/* see(page, learn): (classes, sights), a byte of each for every character; learn(character): class << 8 | sight. */
static PyObject *see(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    PyObject *classes, *sights;
    if (count != 2 || !PyUnicode_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "see(page, learn)");
        return NULL;
    }
    Py_ssize_t size = PyUnicode_GET_LENGTH(args[0]);
    classes = PyBytes_FromStringAndSize(NULL, size);
    sights = PyBytes_FromStringAndSize(NULL, size);
    if (classes == NULL || sights == NULL) {
        goto failed;
    }
    unsigned char *class = (unsigned char *)PyBytes_AS_STRING(classes);
    unsigned char *sight = (unsigned char *)PyBytes_AS_STRING(sights);
    for (Py_ssize_t at = 0; at < size; at++) {
        Py_UCS4 code = PyUnicode_READ_CHAR(args[0], at);
        if (code < KNOWN && met_sight[code]) {
            class[at] = met_class[code];
            sight[at] = met_sight[code];
        } else if (!ask(args[1], code, class + at, sight + at)) {
            goto failed;
        }
    }
    PyObject *found = PyTuple_Pack(2, classes, sights);
    Py_DECREF(classes);
    Py_DECREF(sights);
    return found;
failed:
    Py_XDECREF(classes);
    Py_XDECREF(sights);
    return NULL;
}

static PyMethodDef methods[] = {
    {"forget", forget, METH_NOARGS, "Let go of the words met of late."},
    {"joints", (PyCFunction)joints, METH_O, "Joints in a stretch of text given as classes."},
    {"kinds", (PyCFunction)kinds_of, METH_O, "Kinds of joints in a stretch of text given as classes."},
    {"glance", (PyCFunction)(void (*)(void))glance, METH_FASTCALL, "What is counted in every page given as classes."},
    {"see", (PyCFunction)(void (*)(void))see, METH_FASTCALL, "Class and sight of each character of a page."},
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
