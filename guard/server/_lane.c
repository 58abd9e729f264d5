/*
 * Plain chunks from the backend's connection to the client's, in one call for each: see guard/server/lane.py.
 *
 * What is taken here is what guard.proto.plain.PlainForm.read takes of whole HTTP chunks, as long as they may pass by
 * the rules of guard.core.passing.Passing.pass_on. Whatever is in doubt is not taken: nothing was done then, and the same
 * bytes go the usual way. No memory is managed here but that of Python's objects: texts and steps wait in arrays of a
 * fixed size, and what would not fit is not taken.
 */
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>
#include <string.h>
#include <structmember.h>
#include <sys/socket.h>

/* Where there is no such flag, Python itself has the signal ignored. */
#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

/* Steps that may wait: each has a token at least, and never more than guard.core.passing.MOST_UNJUDGED wait. */
#define MOST_STEPS 20
/* Bytes of text that may wait. */
#define MOST_TEXT 384
/* Token ids in a chunk, digits of one, digits of a chunk's size. */
#define MOST_IDS 32
#define MOST_DIGITS 9
#define SIZE_DIGITS 3

static const char AFTER_IDS[] = "]}],\"metrics\":{\"speculative_decoding\":{\"per_step_accepted\":[";
static const char AFTER_ACCEPTED[] = "],\"per_step_drafted\":[";
static const char AFTER_DRAFTED[] = "]}}}\n\n";
/* What the client gets instead of all that, and the end of its HTTP chunk. */
static const char CUT[] = "null}]}\n\n\r\n";
#define LENGTH(text) ((Py_ssize_t)(sizeof(text) - 1))
#define TAIL (LENGTH(AFTER_IDS) + LENGTH(AFTER_ACCEPTED) + LENGTH(AFTER_DRAFTED) + 2)

typedef struct {
    PyObject_HEAD
    PyObject *transport, *protocol, *pulse, *feed, *clock;
    PyObject *prefix, *middle; /* bytes while it was ever armed, else NULL */
    PyObject *reply;           /* who gets what is not taken, or NULL */
    PyObject *latest;          /* what holds the HTTP chunk that passed last, or NULL */
    Py_ssize_t begin, size, end; /* where its event begins, its bytes, and where its text ends in it */
    double slack, share, first, since, gap;
    Py_ssize_t room, most_bytes, text_size;
    int most, unjudged, count;
    int socket;                /* the client's, where bytes go out as they are; -1 for none */
    char armed, due, open;
    unsigned char steps[3 * MOST_STEPS]; /* accepted, drafted, tokens */
    char text[MOST_TEXT];
} Lane;

/* One plain chunk. Places are counted from the beginning of the HTTP chunk. */
typedef struct {
    Py_ssize_t whole;            /* bytes of the HTTP chunk */
    Py_ssize_t begin, end, kept; /* its event, the end of its text; bytes of the event that the client gets */
    Py_ssize_t characters, text_size;
    int accepted, drafted, tokens;
} Found;

static PyObject *is_closing, *write_, *get_write_buffer_size, *writing_paused, *since_, *active, *data_received;
static PyObject *lane_passed, *lane_broke;

/* Bytes of the well-formed UTF-8 sequence that begins here, whose first byte is above 0x7f; 0 if it is none. */
static int sequence(const unsigned char *at, Py_ssize_t left)
{
    unsigned char first = at[0], low = 0x80, high = 0xbf;
    int size;
    if (first >= 0xc2 && first <= 0xdf) {
        size = 2;
    } else if (first >= 0xe0 && first <= 0xef) {
        size = 3;
        low = first == 0xe0 ? 0xa0 : low;
        high = first == 0xed ? 0x9f : high;
    } else if (first >= 0xf0 && first <= 0xf4) {
        size = 4;
        low = first == 0xf0 ? 0x90 : low;
        high = first == 0xf4 ? 0x8f : high;
    } else {
        return 0;
    }
    if (left < size || at[1] < low || at[1] > high) {
        return 0;
    }
    for (int place = 2; place < size; place++) {
        if (at[place] < 0x80 || at[place] > 0xbf) {
            return 0;
        }
    }
    return size;
}

/* Put the text that a JSON string stands for into `out`. False if it is not one that is plain, or has not the room. */
static int read_text(const unsigned char *at, const unsigned char *stop, char *out, Py_ssize_t room, Found *found)
{
    Py_ssize_t size = 0, characters = 0;
    while (at < stop) {
        unsigned char byte = *at;
        int length = 1;
        if (byte == '\\') {
            if (stop - at < 2) {
                return 0;
            }
            switch (at[1]) {
            case '"': case '\\': case '/': byte = at[1]; break;
            case 'b': byte = '\b'; break;
            case 'f': byte = '\f'; break;
            case 'n': byte = '\n'; break;
            case 'r': byte = '\r'; break;
            case 't': byte = '\t'; break;
            default: return 0;
            }
            at += 2;
        } else if (byte < 0x20 || byte == '"') {
            return 0;
        } else if (byte < 0x80) {
            at += 1;
        } else {
            length = sequence(at, stop - at);
            if (!length || room - size < length) {
                return 0;
            }
            memcpy(out + size, at, (size_t)length);
            at += length;
        }
        if (length == 1) {
            if (size >= room) {
                return 0;
            }
            out[size] = (char)byte;
        }
        size += length;
        characters += 1;
    }
    found->text_size = size;
    found->characters = characters;
    return characters > 0;
}

/* How many token ids stand here and nothing else; 0 if something else does. */
static int count_ids(const unsigned char *at, const unsigned char *stop)
{
    int ids = 0, digits = 0;
    for (; at < stop; at++) {
        if (*at >= '0' && *at <= '9') {
            if (++digits > MOST_DIGITS) {
                return 0;
            }
        } else if (*at == ',' && digits && ids < MOST_IDS - 1) {
            ids += 1;
            digits = 0;
        } else {
            return 0;
        }
    }
    return digits ? ids + 1 : 0;
}

static int is_digit(unsigned char byte)
{
    return byte >= '0' && byte <= '9';
}

/* Where the data of an HTTP chunk begins, if these bytes begin with a whole one, as engines write it; else 0. */
static Py_ssize_t unframed(const unsigned char *data, Py_ssize_t size, Py_ssize_t *whole)
{
    Py_ssize_t told = 0, at = 0;
    for (; at < size && at < SIZE_DIGITS; at++) {
        if (is_digit(data[at])) {
            told = told * 16 + (data[at] - '0');
        } else if (data[at] >= 'a' && data[at] <= 'f') {
            told = told * 16 + (data[at] - 'a' + 10);
        } else {
            break;
        }
    }
    *whole = at + told + 4;
    if (!told || data[0] == '0' || size < *whole) {
        return 0;
    }
    if (data[at] != '\r' || data[at + 1] != '\n' || data[*whole - 2] != '\r' || data[*whole - 1] != '\n') {
        return 0;
    }
    return at + 2;
}

/* Read the first chunk, if it is plain; its text goes behind the text that waits. False, and nothing done, if not. */
static int read_chunk(Lane *self, const unsigned char *data, Py_ssize_t size, Found *found)
{
    const Py_ssize_t before = PyBytes_GET_SIZE(self->prefix), between = PyBytes_GET_SIZE(self->middle);
    Py_ssize_t begin = unframed(data, size, &found->whole), event = found->whole - 2 - begin;
    const unsigned char *at, *middle, *tail;
    if (!begin || event > self->most_bytes || event < before + between + TAIL + 2) {
        return 0;
    }
    at = data + begin;
    if (memcmp(at, PyBytes_AS_STRING(self->prefix), (size_t)before) != 0) {
        return 0;
    }
    tail = at + event - TAIL;
    middle = memmem(at + before, (size_t)(event - before), PyBytes_AS_STRING(self->middle), (size_t)between);
    if (middle == NULL || middle == at + before || middle + between >= tail) {
        return 0;
    }
    found->begin = begin;
    found->end = middle - data;
    found->kept = found->end + between - 1 - begin;
    found->tokens = count_ids(middle + between, tail);
    if (!found->tokens || memcmp(tail, AFTER_IDS, LENGTH(AFTER_IDS)) != 0) {
        return 0;
    }
    tail += LENGTH(AFTER_IDS);
    if (!is_digit(tail[0]) || memcmp(tail + 1, AFTER_ACCEPTED, LENGTH(AFTER_ACCEPTED)) != 0) {
        return 0;
    }
    found->accepted = tail[0] - '0';
    tail += 1 + LENGTH(AFTER_ACCEPTED);
    if (!is_digit(tail[0]) || memcmp(tail + 1, AFTER_DRAFTED, LENGTH(AFTER_DRAFTED)) != 0) {
        return 0;
    }
    found->drafted = tail[0] - '0';
    return read_text(at + before, middle, self->text + self->text_size, MOST_TEXT - self->text_size, found);
}

/* Digits of the size of the client's HTTP chunk: it is shorter than the one that came, so three are enough. */
static int digits_of(const Found *found)
{
    Py_ssize_t size = found->kept + LENGTH(CUT) - 2;
    return size < 0x10 ? 1 : size < 0x100 ? 2 : 3;
}

/* Bytes of the client's HTTP chunk. */
static Py_ssize_t size_of(const Found *found)
{
    return digits_of(found) + 2 + found->kept + LENGTH(CUT);
}

/* Write the client's HTTP chunk; where it ends. */
static char *put_chunk(char *to, const char *data, const Found *found)
{
    static const char HEX[] = "0123456789abcdef";
    Py_ssize_t size = found->kept + LENGTH(CUT) - 2;
    for (int place = digits_of(found) - 1; place >= 0; place--) {
        *to++ = HEX[(size >> (4 * place)) & 0xf];
    }
    *to++ = '\r';
    *to++ = '\n';
    memcpy(to, data + found->begin, (size_t)found->kept);
    memcpy(to + found->kept, CUT, LENGTH(CUT));
    return to + found->kept + LENGTH(CUT);
}

/* Whether an attribute is true; -1 with an error. */
static int is_true(PyObject *of, PyObject *name)
{
    PyObject *found = PyObject_GetAttr(of, name);
    int truth;
    if (found == NULL) {
        return -1;
    }
    truth = PyObject_IsTrue(found);
    Py_DECREF(found);
    return truth;
}

/* Whether nothing speaks against passing: nobody looks on, the client is there. -1 with an error. */
static int may_write(Lane *self)
{
    PyObject *closing;
    int truth = is_true(self->feed, active);
    if (truth) {
        return truth < 0 ? -1 : 0;
    }
    closing = PyObject_CallMethodNoArgs(self->transport, is_closing);
    if (closing == NULL) {
        return -1;
    }
    truth = PyObject_IsTrue(closing);
    Py_DECREF(closing);
    return truth < 0 ? -1 : !truth;
}

/* Whether something waits to be written; -1 with an error. */
static int is_filled(Lane *self)
{
    PyObject *size = PyObject_CallMethodNoArgs(self->transport, get_write_buffer_size);
    int truth;
    if (size == NULL) {
        return -1;
    }
    truth = PyObject_IsTrue(size);
    Py_DECREF(size);
    return truth;
}

/*
 * Write to the client. 1 if it has to be waited for, 0 if not, -1 with an error.
 *
 * Where nothing waits to be written the bytes go straight to the socket, as the transport would send them; what the
 * socket does not take, or whatever is wrong with it, is the transport's to see to. Its protocol is asked, in Python, only
 * where something waits then.
 */
static int put(Lane *self, PyObject *out)
{
    const Py_ssize_t size = PyBytes_GET_SIZE(out);
    PyObject *rest = NULL, *done;
    ssize_t sent = 0;
    int truth = 1;
    if (self->socket >= 0) {
        truth = is_filled(self);
        if (truth < 0) {
            return -1;
        }
        if (!truth) {
            sent = send(self->socket, PyBytes_AS_STRING(out), (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
        }
        if (sent == size) {
            return 0;
        }
    }
    if (sent > 0) {
        rest = PyBytes_FromStringAndSize(PyBytes_AS_STRING(out) + sent, size - sent);
        if (rest == NULL) {
            return -1;
        }
    }
    done = PyObject_CallMethodOneArg(self->transport, write_, rest != NULL ? rest : out);
    Py_XDECREF(rest);
    if (done == NULL) {
        return -1;
    }
    Py_DECREF(done);
    truth = is_filled(self);
    return truth <= 0 ? truth : is_true(self->protocol, writing_paused);
}

/* When; NaN with an error. */
static double ask_clock(Lane *self, PyObject **now)
{
    double at = -1.0;
    *now = PyObject_CallNoArgs(self->clock);
    if (*now != NULL) {
        at = PyFloat_AsDouble(*now);
        if (at == -1.0 && PyErr_Occurred()) {
            Py_CLEAR(*now);
        }
    }
    return at;
}

/* Whether one plain chunk more may pass unjudged, by what acceptance may still lose; then that is less. */
static int may_pass(Lane *self, const Found *found)
{
    double slack = self->slack;
    if (self->unjudged + found->tokens > self->most) {
        return 0;
    }
    if (found->drafted) {
        int judged = found->accepted < found->drafted ? found->accepted + 1 : found->accepted;
        slack = slack + found->accepted - self->share * judged;
        if (slack < 0.0) {
            return 0;
        }
    }
    self->slack = slack;
    return 1;
}

/* Remember what passes: the chunk at this place in the data. */
static void keep(Lane *self, PyObject *data, Py_ssize_t place, const Found *found, double at)
{
    unsigned char *step = self->steps + 3 * self->count;
    PyObject *before = self->latest;
    self->room -= found->characters;
    self->unjudged += found->tokens;
    /* The next chunk may have as many tokens as its step can give. */
    self->due = self->room <= 0 || self->unjudged + found->drafted >= self->most;
    self->armed = !self->due;
    self->text_size += found->text_size;
    step[0] = (unsigned char)found->accepted;
    step[1] = (unsigned char)found->drafted;
    step[2] = (unsigned char)found->tokens;
    if (!self->count) {
        self->first = at;
    } else if (at - self->since > self->gap) {
        self->gap = at - self->since;
    }
    self->since = at;
    self->count += 1;
    self->begin = place + found->begin;
    self->size = found->whole - found->begin - 2;
    self->end = found->end - found->begin;
    self->latest = Py_NewRef(data);
    Py_XDECREF(before);
}

/*
 * Keep the plain chunks that the data begins with and that may pass; what the client gets for them.
 *
 * NULL without an error if there is none. `taken` becomes the bytes of data that they are.
 */
static PyObject *take_chunks(Lane *self, PyObject *data, double at, Py_ssize_t *taken)
{
    const Py_ssize_t size = PyBytes_GET_SIZE(data);
    const char *text = PyBytes_AS_STRING(data);
    PyObject *out = NULL;
    char *to = NULL;
    Found found;
    *taken = 0;
    while (self->armed && *taken < size && self->count < MOST_STEPS) {
        if (!read_chunk(self, (const unsigned char *)text + *taken, size - *taken, &found) || !may_pass(self, &found)) {
            break;
        }
        if (out == NULL) {
            /* All that may follow is longer than what comes in its place. */
            out = PyBytes_FromStringAndSize(NULL, found.whole == size ? size_of(&found) : size);
            if (out == NULL) {
                return NULL;
            }
            to = PyBytes_AS_STRING(out);
        }
        to = put_chunk(to, text + *taken, &found);
        keep(self, data, *taken, &found, at);
        *taken += found.whole;
    }
    if (out != NULL && to - PyBytes_AS_STRING(out) < PyBytes_GET_SIZE(out)) {
        _PyBytes_Resize(&out, to - PyBytes_AS_STRING(out));
    }
    return out;
}

/*
 * 0 if nothing is taken, 1 if it has passed, 2 if somebody has to look besides; -1 with an error. `taken` becomes the
 * bytes that have passed: where a stall made several chunks come at once, those that may.
 */
static int pass_on(Lane *self, PyObject *data, Py_ssize_t *taken)
{
    PyObject *now, *out;
    double at;
    int truth;
    if (!self->armed || !PyBytes_CheckExact(data)) {
        return 0;
    }
    /* Asking others may run anything, so that comes first. */
    truth = may_write(self);
    if (truth <= 0) {
        return truth;
    }
    at = ask_clock(self, &now);
    if (now == NULL) {
        return -1;
    }
    out = take_chunks(self, data, at, taken);
    if (out == NULL) {
        Py_DECREF(now);
        return PyErr_Occurred() ? -1 : 0;
    }
    truth = self->pulse == Py_None ? 0 : PyObject_SetAttr(self->pulse, since_, now);
    Py_DECREF(now);
    truth = truth < 0 ? -1 : put(self, out);
    Py_DECREF(out);
    return truth < 0 ? -1 : truth || self->due ? 2 : 1;
}

/* What was not taken goes to the reply. */
static PyObject *hand_on(PyObject *reply, PyObject *data, Py_ssize_t taken)
{
    PyObject *rest, *done;
    if (!taken) {
        return PyObject_CallMethodOneArg(reply, data_received, data);
    }
    rest = PyBytes_FromStringAndSize(PyBytes_AS_STRING(data) + taken, PyBytes_GET_SIZE(data) - taken);
    if (rest == NULL) {
        return NULL;
    }
    done = PyObject_CallMethodOneArg(reply, data_received, rest);
    Py_DECREF(rest);
    return done;
}

static PyObject *take(Lane *self, PyObject *data)
{
    Py_ssize_t taken = 0;
    int code = pass_on(self, data, &taken);
    return code < 0 ? NULL : PyLong_FromLong(code && taken < PyBytes_GET_SIZE(data) ? 3 : code);
}

/* The error that is set, which is not any more. */
static PyObject *caught(void)
{
#if PY_VERSION_HEX >= 0x030c0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    if (trace != NULL && error != NULL) {
        PyException_SetTraceback(error, trace);
    }
    Py_XDECREF(type);
    Py_XDECREF(trace);
    return error;
#endif
}

static PyObject *feed(Lane *self, PyObject *data)
{
    Py_ssize_t taken = 0;
    int code = self->open ? pass_on(self, data, &taken) : 0;
    int rest = code == 0 || (code > 0 && taken < PyBytes_GET_SIZE(data));
    PyObject *reply = self->reply, *done, *error;
    if (code == 1 && !rest) {
        Py_RETURN_NONE;
    }
    if (code < 0 && (reply == NULL || !PyErr_ExceptionMatches(PyExc_Exception))) {
        return NULL;
    }
    if (reply == NULL) {
        Py_RETURN_NONE;
    }
    Py_INCREF(reply);
    if (rest) {
        /* Whoever reads that looks first, if a look is due, and sees for himself that the client is full. */
        done = hand_on(reply, data, taken);
    } else if (code == 2) {
        done = PyObject_CallMethodNoArgs(reply, lane_passed);
    } else {
        error = caught();
        done = error == NULL ? NULL : PyObject_CallMethodOneArg(reply, lane_broke, error);
        Py_XDECREF(error);
    }
    Py_DECREF(reply);
    return done;
}

static PyObject *serve(Lane *self, PyObject *reply)
{
    PyObject *before = self->reply;
    self->open = 0;
    self->reply = reply == Py_None ? NULL : Py_NewRef(reply);
    Py_XDECREF(before);
    Py_RETURN_NONE;
}

static PyObject *arm(Lane *self, PyObject *const *args, Py_ssize_t count)
{
    double slack, share;
    Py_ssize_t room, most_bytes;
    long unjudged, most;
    PyObject *old;
    if (count != 8 || !PyBytes_CheckExact(args[0]) || !PyBytes_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "arm(prefix, middle, slack, share, room, unjudged, most, most_bytes)");
        return NULL;
    }
    slack = PyFloat_AsDouble(args[2]);
    share = PyFloat_AsDouble(args[3]);
    room = PyLong_AsSsize_t(args[4]);
    unjudged = PyLong_AsLong(args[5]);
    most = PyLong_AsLong(args[6]);
    most_bytes = PyLong_AsSsize_t(args[7]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (self->transport == NULL || self->count || unjudged < 0 || most < 0 || most > MOST_STEPS || !PyBytes_GET_SIZE(args[1])) {
        PyErr_SetString(PyExc_ValueError, "a lane is armed empty, with a form, for 20 tokens at most");
        return NULL;
    }
    old = self->prefix;
    self->prefix = Py_NewRef(args[0]);
    Py_XDECREF(old);
    old = self->middle;
    self->middle = Py_NewRef(args[1]);
    Py_XDECREF(old);
    self->slack = slack;
    self->share = share;
    self->room = room;
    self->unjudged = unjudged > most ? (int)most : (int)unjudged;
    self->most = (int)most;
    self->most_bytes = most_bytes;
    self->gap = 0.0;
    self->due = 0;
    self->text_size = 0;
    self->armed = 1;
    Py_RETURN_NONE;
}

static PyObject *drain(Lane *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *found, *latest = self->latest;
    int due = self->due;
    self->armed = self->due = 0;
    if (!self->count || latest == NULL) {
        Py_RETURN_NONE;
    }
    found = Py_BuildValue(
        "(y#ns#y#dddOdn)",
        PyBytes_AS_STRING(latest) + self->begin, self->size,
        self->end,
        self->text, self->text_size,
        (const char *)self->steps, (Py_ssize_t)(3 * self->count),
        self->first, self->since, self->gap,
        due ? Py_True : Py_False,
        self->slack, self->room);
    if (found == NULL) {
        return NULL;
    }
    self->count = 0;
    self->text_size = 0;
    self->latest = NULL;
    Py_DECREF(latest);
    return found;
}

static int clear(Lane *self)
{
    self->armed = self->due = self->open = 0;
    self->count = 0;
    self->text_size = 0;
    Py_CLEAR(self->reply);
    Py_CLEAR(self->transport);
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->pulse);
    Py_CLEAR(self->feed);
    Py_CLEAR(self->clock);
    Py_CLEAR(self->prefix);
    Py_CLEAR(self->middle);
    Py_CLEAR(self->latest);
    return 0;
}

static int traverse(Lane *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->reply);
    Py_VISIT(self->transport);
    Py_VISIT(self->protocol);
    Py_VISIT(self->pulse);
    Py_VISIT(self->feed);
    Py_VISIT(self->clock);
    Py_VISIT(self->prefix);
    Py_VISIT(self->middle);
    Py_VISIT(self->latest);
    return 0;
}

static void dealloc(Lane *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    clear(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *new_lane(PyTypeObject *type, PyObject *args, PyObject *names)
{
    PyObject *transport, *protocol, *pulse, *feed, *clock;
    int socket;
    Lane *self;
    if ((names != NULL && PyDict_GET_SIZE(names)) ||
        !PyArg_ParseTuple(args, "OOOOOi", &transport, &protocol, &pulse, &feed, &clock, &socket)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "Lane() takes no names");
        }
        return NULL;
    }
    self = (Lane *)type->tp_alloc(type, 0); /* filled with zeros */
    if (self == NULL) {
        return NULL;
    }
    self->transport = Py_NewRef(transport);
    self->protocol = Py_NewRef(protocol);
    self->pulse = Py_NewRef(pulse);
    self->feed = Py_NewRef(feed);
    self->clock = Py_NewRef(clock);
    self->socket = socket;
    return (PyObject *)self;
}

static PyMethodDef methods[] = {
    {"arm", (PyCFunction)(void (*)(void))arm, METH_FASTCALL, "Let chunks of a form pass from now on."},
    {"take", (PyCFunction)take, METH_O, "Pass chunks on: 0 none, 1 all, 2 all and somebody has to look, 3 a part."},
    {"feed", (PyCFunction)feed, METH_O, "The same, and what it does not take goes to the reply it serves."},
    {"serve", (PyCFunction)serve, METH_O, "Whose pieces come; None for nobody's. Not open then."},
    {"drain", (PyCFunction)drain, METH_NOARGS, "Let nothing pass any more; what has passed, or None."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"due", T_BOOL, offsetof(Lane, due), READONLY, "Whether a look is due at what has passed."},
    {"open", T_BOOL, offsetof(Lane, open), 0, "Whether what comes next may be a whole chunk that nobody waits for."},
    {"since", T_DOUBLE, offsetof(Lane, since), READONLY, "When something last passed; 0 before."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, new_lane},
    {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {0, NULL},
};

static PyType_Spec spec = {
    "guard.server._lane.Lane", sizeof(Lane), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, slots,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "guard.server._lane", NULL, -1, NULL, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__lane(void)
{
    PyObject *made, *type;
    is_closing = PyUnicode_InternFromString("is_closing");
    write_ = PyUnicode_InternFromString("write");
    get_write_buffer_size = PyUnicode_InternFromString("get_write_buffer_size");
    writing_paused = PyUnicode_InternFromString("writing_paused");
    since_ = PyUnicode_InternFromString("since");
    active = PyUnicode_InternFromString("active");
    data_received = PyUnicode_InternFromString("data_received");
    lane_passed = PyUnicode_InternFromString("lane_passed");
    lane_broke = PyUnicode_InternFromString("lane_broke");
    if (!is_closing || !write_ || !get_write_buffer_size || !writing_paused || !since_ || !active || !data_received ||
        !lane_passed || !lane_broke) {
        return NULL;
    }
    made = PyModule_Create(&module);
    if (made == NULL) {
        return NULL;
    }
    type = PyType_FromSpec(&spec);
    if (type == NULL || PyModule_AddObject(made, "Lane", type) < 0) {
        Py_XDECREF(type);
        Py_DECREF(made);
        return NULL;
    }
    return made;
}
