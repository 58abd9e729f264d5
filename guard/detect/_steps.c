/*
 * What verify steps kept of their drafts, over windows and against a reference: see guard.detect.acceptance,
 * guard.detect.step_window and guard.detect.reference, which do the same in Python, number by number. Every step of
 * every stream comes here, and every look asks how far it is from a fall.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* As guard.detect.step_window, guard.detect.reference and guard.detect.acceptance have them. */
#define PRIOR 4.0
#define LEAST_BASELINE 0.15
#define LEAST_HISTORY 0.3
#define HISTORY_BLOCK 16
#define HISTORY_MIN 2
#define HISTORY_MAX 64
#define HISTORY_TRUST 6
#define DOUBT_MAX 10
#define DOUBT 5.0
#define FALLEN_SHARE 0.35
/* No step has more tokens, and none drafts or keeps more. */
#define MOST 16777216
#define MOST_DRAFTED 16383

static PyObject *name_accepted, *name_drafted, *name_tokens;

/* Small, for every window of every stream keeps its own. */
typedef struct {
    int accepted : 16, drafted : 15;
    unsigned int rejected : 1;
    int tokens;
} Step;

/* reference.History */
typedef struct {
    long accepted, judged;
    int known, held;
    bool trusted;
    double reference;
    double blocks[HISTORY_MAX + 1], doubtful[DOUBT_MAX + 1];
} History;

typedef struct {
    PyObject_HEAD
    long size;
    bool by_tokens, bounded, alone, full;
    double baseline;
    /* Of the steps in the window. */
    long long accepted, rejected, drafted, kept_known, steps, undrafted, tokens;
    /* Those before `first` have left. */
    Step *ring;
    Py_ssize_t first, end, room;
    History *history;
} Window;

typedef struct {
    PyObject_HEAD
    PyObject *views;
    Window **windows;
    Py_ssize_t count;
    /* Where the change point's reference comes from; -1 for nowhere. */
    Py_ssize_t lead;
    int deepest;
    bool doubts;
    /* acceptance.ChangePoint */
    double reference, kept, rejected, sum;
    long long onset;
} Acceptance;

static PyTypeObject window_type, acceptance_type;

/* --- reference.History --- */

static void take_block(History *of, double block)
{
    int place = of->known;
    while (place > 0 && of->blocks[place - 1] > block) {
        of->blocks[place] = of->blocks[place - 1];
        place--;
    }
    of->blocks[place] = block;
    of->known++;
    if (of->known > HISTORY_MAX) {
        int left = 0;
        for (int at = 0; at < of->known; at += 2) {
            of->blocks[left++] = of->blocks[at];
        }
        of->known = left;
    }
    of->trusted = of->known >= HISTORY_TRUST;
    if (of->known >= HISTORY_MIN) {
        of->reference = of->blocks[of->known / 2];
    }
}

static void remember(History *of, const Step *step, bool doubt)
{
    of->accepted += step->accepted;
    of->judged += step->accepted + (int)step->rejected;
    if (of->judged < HISTORY_BLOCK) {
        return;
    }
    of->doubtful[of->held++] = (double)of->accepted / (double)of->judged;
    of->accepted = of->judged = 0;
    if (!doubt || of->held > DOUBT_MAX || of->known < HISTORY_MIN) {
        for (int at = 0; at < of->held; at++) {
            take_block(of, of->doubtful[at]);
        }
        of->held = 0;
    }
}

static double highest(const History *of)
{
    if (of->known < HISTORY_MIN) {
        return NAN;
    }
    int place = of->known / 2 + 1;
    return of->blocks[place < of->known ? place : of->known - 1];
}

/* --- step_window.StepWindow --- */

static void count_step(Window *of, const Step *step, int sign)
{
    of->tokens += sign * step->tokens;
    if (step->drafted == 0) {
        of->undrafted += sign;
        return;
    }
    of->steps += sign;
    of->accepted += sign * step->accepted;
    of->rejected += sign * (int)step->rejected;
    if (step->drafted > 0) {
        of->drafted += sign * step->drafted;
        of->kept_known += sign * step->accepted;
    }
}

static void let_go(Window *of, bool doubt)
{
    const Step *oldest = &of->ring[of->first++];
    count_step(of, oldest, -1);
    if (of->history != NULL && oldest->drafted != 0) {
        remember(of->history, oldest, doubt);
    }
}

/* Room for one step more; -1 with an error. */
static int make_room(Window *of)
{
    if (of->end < of->room) {
        return 0;
    }
    if (of->first > 0) {
        memmove(of->ring, of->ring + of->first, (size_t)(of->end - of->first) * sizeof(Step));
        of->end -= of->first;
        of->first = 0;
        if (of->end <= of->room / 2) {
            return 0;
        }
    }
    Py_ssize_t room = of->room > 0 ? 2 * of->room : 16;
    Step *ring = PyMem_Realloc(of->ring, (size_t)room * sizeof(Step));
    if (ring == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    of->ring = ring;
    of->room = room;
    return 0;
}

static int add_step(Window *of, const Step *step, bool doubt)
{
    count_step(of, step, 1);
    if (!of->bounded) {
        return 0;
    }
    if (make_room(of) < 0) {
        return -1;
    }
    of->ring[of->end++] = *step;
    if (of->by_tokens) {
        long long excess = of->tokens - of->size;
        while (excess >= 0 && excess >= of->ring[of->first].tokens) {
            excess -= of->ring[of->first].tokens;
            let_go(of, doubt);
        }
        of->full = excess >= 0;
    } else {
        while (of->end - of->first > of->size) {
            let_go(of, doubt);
        }
        of->full = of->end - of->first >= of->size;
    }
    return 0;
}

static double reference_of(const Window *of)
{
    const History *history = of->history;
    if (history == NULL) {
        return of->baseline;
    }
    return of->alone || (history->trusted && history->reference < of->baseline) ? history->reference : of->baseline;
}

static double below(const Window *of, double reference, double least)
{
    long long judged = of->accepted + of->rejected;
    if (!of->full || judged == 0 || isnan(reference)) {
        return NAN;
    }
    if (reference < least) {
        return 0.0;
    }
    double fallen = 1.0 - ((double)of->accepted + PRIOR * reference) / ((double)judged + PRIOR) / reference;
    return fallen < 0.0 ? 0.0 : fallen > 1.0 ? 1.0 : fallen;
}

static double probability_of(const Window *of)
{
    long long judged = of->accepted + of->rejected;
    return judged != 0 ? (double)of->accepted / (double)judged : NAN;
}

static double length_of(const Window *of)
{
    return of->steps != 0 ? 1.0 + (double)of->accepted / (double)of->steps : NAN;
}

/* Where the first step stands that stays in the window while `ahead` tokens come. */
static Py_ssize_t staying(const Window *of, long ahead)
{
    long long leaving = ahead + (of->by_tokens ? of->tokens : of->steps + of->undrafted) - of->size;
    Py_ssize_t place = of->first;
    if (!of->bounded) {
        return place;
    }
    for (; place < of->end; place++) {
        leaving -= of->by_tokens ? of->ring[place].tokens : 1;
        if (leaving < 0) {
            break;
        }
    }
    return place;
}

/* reference.History.soon, of the steps that leave. */
static double soon(const Window *of, long ahead)
{
    const History *history = of->history;
    const Py_ssize_t stop = staying(of, ahead);
    int blocks = history->known;
    long long accepted = history->accepted, judged = history->judged;
    double most = blocks ? history->blocks[blocks - 1] : 0.0;
    for (Py_ssize_t place = of->first; place < stop; place++) {
        const Step *step = &of->ring[place];
        if (step->drafted == 0) {
            continue;
        }
        accepted += step->accepted;
        judged += step->accepted + (int)step->rejected;
        if (judged >= HISTORY_BLOCK) {
            double block = (double)accepted / (double)judged;
            most = block > most ? block : most;
            blocks++;
            accepted = judged = 0;
        }
    }
    return blocks >= HISTORY_MIN ? most : NAN;
}

static void extremes(const Window *of, double share, long ahead, double *least, double *most)
{
    const Py_ssize_t stop = staying(of, ahead);
    double value = (double)of->accepted - share * (double)(of->accepted + of->rejected);
    *least = *most = value;
    for (Py_ssize_t place = of->first; place < stop; place++) {
        const Step *step = &of->ring[place];
        if (step->drafted != 0) {
            value -= (double)step->accepted - share * (double)(step->accepted + (int)step->rejected);
            *least = value < *least ? value : *least;
            *most = value > *most ? value : *most;
        }
    }
}

static PyObject *slack_pair(double slack, double share)
{
    PyObject *first = PyFloat_FromDouble(slack), *second = PyFloat_FromDouble(share);
    PyObject *pair = first != NULL && second != NULL ? PyTuple_Pack(2, first, second) : NULL;
    Py_XDECREF(first);
    Py_XDECREF(second);
    return pair;
}

static PyObject *slack(const Window *of, double share, double base, long ahead)
{
    if (of->bounded && of->size < ahead) {
        return slack_pair(-1.0, 0.0);
    }
    if (of->bounded && of->by_tokens && of->tokens + ahead < of->size) {
        return slack_pair(INFINITY, 0.0);
    }
    double least, most;
    extremes(of, share, ahead, &least, &most);
    return slack_pair(base + least, share);
}

static PyObject *slack_below(const Window *of, double reference, double bound, long ahead)
{
    if (isnan(reference)) {
        reference = of->history != NULL ? soon(of, ahead) : NAN;
    }
    if (isnan(reference) || reference < LEAST_BASELINE) {
        return slack_pair(INFINITY, 0.0);
    }
    double share = (1.0 - bound) * reference;
    return slack(of, share, PRIOR * (reference - share), ahead);
}

/* Bound and tokens ahead of a call; -1 with an error. */
static int bound_and_ahead(PyObject *const *args, Py_ssize_t count, double *bound, long *ahead)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "takes a bound and the tokens ahead");
        return -1;
    }
    *bound = PyFloat_AsDouble(args[0]);
    if (*bound == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    *ahead = PyLong_AsLong(args[1]);
    return *ahead == -1 && PyErr_Occurred() ? -1 : 0;
}

static PyObject *fall_slack(Window *self, PyObject *const *args, Py_ssize_t count)
{
    double bound, reference = self->baseline;
    long ahead;
    if (bound_and_ahead(args, count, &bound, &ahead) < 0) {
        return NULL;
    }
    if (self->history != NULL && (self->alone || reference_of(self) != reference)) {
        double most = highest(self->history);
        reference = self->alone || most < reference ? most : reference;
    }
    return slack_below(self, reference, bound, ahead);
}

static PyObject *drop_slack(Window *self, PyObject *const *args, Py_ssize_t count)
{
    double bound;
    long ahead;
    if (bound_and_ahead(args, count, &bound, &ahead) < 0) {
        return NULL;
    }
    return slack_below(self, self->history != NULL ? highest(self->history) : NAN, bound, ahead);
}

static PyObject *sink_slack(Window *self, PyObject *const *args, Py_ssize_t count)
{
    double bound;
    long ahead;
    return bound_and_ahead(args, count, &bound, &ahead) < 0 ? NULL : slack(self, bound, 0.0, ahead);
}

static PyObject *rise_slack(Window *self, PyObject *const *args, Py_ssize_t count)
{
    double share, least, most;
    long ahead;
    if (bound_and_ahead(args, count, &share, &ahead) < 0) {
        return NULL;
    }
    if (self->bounded && self->size < ahead) {
        return slack_pair(-1.0, 0.0);
    }
    extremes(self, share, ahead, &least, &most);
    return slack_pair(most + (1.0 - share) * (double)ahead > 0.0 ? -1.0 : INFINITY, 0.0);
}

static PyObject *fall(Window *self, PyObject *Py_UNUSED(none))
{
    double reference = reference_of(self);
    return PyFloat_FromDouble(below(self, reference, reference == self->baseline ? LEAST_BASELINE : LEAST_HISTORY));
}

static PyObject *drop(Window *self, PyObject *Py_UNUSED(none))
{
    return PyFloat_FromDouble(below(self, self->history != NULL ? self->history->reference : NAN, LEAST_HISTORY));
}

static PyObject *length(Window *self, PyObject *Py_UNUSED(none))
{
    return PyFloat_FromDouble(self->full ? length_of(self) : NAN);
}

static PyObject *rate(Window *self, PyObject *Py_UNUSED(none))
{
    bool told = self->full && self->drafted != 0;
    return PyFloat_FromDouble(told ? (double)self->kept_known / (double)self->drafted : NAN);
}

static PyObject *probability(Window *self, PyObject *Py_UNUSED(none))
{
    return PyFloat_FromDouble(self->full ? probability_of(self) : NAN);
}

static PyObject *undrafted(Window *self, PyObject *Py_UNUSED(none))
{
    long long steps = self->steps + self->undrafted;
    return PyFloat_FromDouble(self->full && steps != 0 ? (double)self->undrafted / (double)steps : NAN);
}

static PyObject *reference(Window *self, PyObject *Py_UNUSED(none))
{
    return PyFloat_FromDouble(reference_of(self));
}

static PyObject *told(Window *self, PyObject *Py_UNUSED(none))
{
    return slack_pair(probability_of(self), length_of(self));
}

static PyObject *get_own(Window *self, void *Py_UNUSED(closure))
{
    return PyFloat_FromDouble(self->history != NULL ? self->history->reference : NAN);
}

static PyObject *get_tokens(Window *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(self->tokens);
}

static void free_window(Window *self)
{
    PyMem_Free(self->ring);
    PyMem_Free(self->history);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

#define QUICK(name) (PyCFunction)(void (*)(void))name, METH_FASTCALL
static PyMethodDef window_methods[] = {
    {"fall", (PyCFunction)fall, METH_NOARGS, "How far acceptance has fallen below its reference."},
    {"drop", (PyCFunction)drop, METH_NOARGS, "How far below the stream's own earlier part."},
    {"length", (PyCFunction)length, METH_NOARGS, "Mean tokens per step that drafted."},
    {"rate", (PyCFunction)rate, METH_NOARGS, "Accepted over drafted."},
    {"probability", (PyCFunction)probability, METH_NOARGS, "Chance that one judged position was kept."},
    {"undrafted", (PyCFunction)undrafted, METH_NOARGS, "Share of the steps that had no draft."},
    {"reference", (PyCFunction)reference, METH_NOARGS, "What a fall is measured against."},
    {"told", (PyCFunction)told, METH_NOARGS, "Probability and length, also of a window that is not full."},
    {"fall_slack", QUICK(fall_slack), "Slack for a fall above a bound."},
    {"drop_slack", QUICK(drop_slack), "Slack for a drop above a bound."},
    {"rise_slack", QUICK(rise_slack), "Slack for a probability above a bound."},
    {"sink_slack", QUICK(sink_slack), "Slack for a probability below a bound."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef window_gets[] = {
    {"own", (getter)get_own, NULL, "What this stream's own earlier part was like.", NULL},
    {"tokens", (getter)get_tokens, NULL, "Tokens in the window.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject window_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "guard.detect._steps.Window",
    .tp_basicsize = sizeof(Window),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "The latest steps of a stream, or all of them: see StepWindow.",
    .tp_dealloc = (destructor)free_window,
    .tp_methods = window_methods,
    .tp_getset = window_gets,
};

/* A window; NULL with an error. */
static Window *new_window(long size, bool by_tokens, bool remembers, double baseline)
{
    Window *made = (Window *)window_type.tp_alloc(&window_type, 0);
    if (made == NULL) {
        return NULL;
    }
    made->size = size;
    made->bounded = size > 0;
    made->full = !made->bounded;
    made->by_tokens = by_tokens;
    made->baseline = baseline;
    made->alone = isnan(baseline);
    if (remembers) {
        made->history = PyMem_Calloc(1, sizeof(History));
        if (made->history == NULL) {
            Py_DECREF(made);
            PyErr_NoMemory();
            return NULL;
        }
        made->history->reference = NAN;
    }
    return made;
}

/* --- acceptance.ChangePoint --- */

static void set_reference(Acceptance *self, double reference)
{
    if (reference == self->reference || isnan(reference)) {
        return;
    }
    self->reference = reference;
    double healthy = reference > 0.05 ? reference : 0.05;
    healthy = healthy < 0.95 ? healthy : 0.95;
    double fallen = FALLEN_SHARE * healthy;
    self->kept = log(fallen / healthy);
    self->rejected = log((1.0 - fallen) / (1.0 - healthy));
}

/* --- acceptance.Acceptance --- */

static int add_to_all(Acceptance *self, int accepted, int drafted, int tokens, long long end)
{
    Step step = {.accepted = accepted > 0 ? accepted : 0, .drafted = drafted, .tokens = tokens > 1 ? tokens : 1};
    if (drafted > 0) {
        step.rejected = step.accepted < drafted;
    } else if (drafted < 0) {
        self->deepest = step.accepted > self->deepest ? step.accepted : self->deepest;
        self->deepest = self->deepest > 1 ? self->deepest : 1;
        step.rejected = step.accepted < self->deepest;
    }
    for (Py_ssize_t at = 0; at < self->count; at++) {
        if (add_step(self->windows[at], &step, self->doubts) < 0) {
            return -1;
        }
    }
    if (drafted != 0) {
        if (self->lead >= 0) {
            set_reference(self, self->windows[self->lead]->history->reference);
        }
        self->sum += (double)step.accepted * self->kept + (double)step.rejected * self->rejected;
        if (self->sum <= 0.0) {
            self->sum = 0.0;
            self->onset = end;
        }
        self->doubts = self->sum >= DOUBT;
    }
    return 0;
}

/* A count of a step, within bounds; -2 with an error. */
static int count_of(PyObject *step, PyObject *name, int most)
{
    PyObject *value = PyObject_GetAttr(step, name);
    if (value == NULL) {
        return -2;
    }
    int over;
    long count = PyLong_AsLongAndOverflow(value, &over);
    Py_DECREF(value);
    if (over != 0) {
        return over > 0 ? most : -1;
    }
    if (count == -1 && PyErr_Occurred()) {
        return -2;
    }
    return count > most ? most : count < -1 ? -1 : (int)count;
}

static PyObject *take(Acceptance *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !PyTuple_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "take(steps, before, after)");
        return NULL;
    }
    long long end = PyLong_AsLongLong(args[1]), after = PyLong_AsLongLong(args[2]);
    if ((end == -1 || after == -1) && PyErr_Occurred()) {
        return NULL;
    }
    Py_ssize_t size = PyTuple_GET_SIZE(args[0]);
    for (Py_ssize_t at = 0; at < size; at++) {
        PyObject *step = PyTuple_GET_ITEM(args[0], at);
        int accepted = count_of(step, name_accepted, MOST_DRAFTED);
        int drafted = count_of(step, name_drafted, MOST_DRAFTED), tokens = count_of(step, name_tokens, MOST);
        if (accepted == -2 || drafted == -2 || tokens == -2) {
            return NULL;
        }
        end += tokens;
        long long ended = at < size - 1 && end < after ? end : after;
        if (add_to_all(self, accepted, drafted, tokens, ended) < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static PyObject *take_counts(Acceptance *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !PyBytes_Check(args[0]) || PyBytes_GET_SIZE(args[0]) % 3) {
        PyErr_SetString(PyExc_TypeError, "take_counts(counts, before, after)");
        return NULL;
    }
    long long end = PyLong_AsLongLong(args[1]), after = PyLong_AsLongLong(args[2]);
    if ((end == -1 || after == -1) && PyErr_Occurred()) {
        return NULL;
    }
    const unsigned char *at = (const unsigned char *)PyBytes_AS_STRING(args[0]);
    for (const unsigned char *stop = at + PyBytes_GET_SIZE(args[0]); at < stop; at += 3) {
        /* The last step of an answer may be cut: none emitted more than its chunk holds. */
        int tokens = at[0] < at[2] ? at[0] + 1 : at[2];
        end += tokens;
        if (add_to_all(self, at[0], at[1], tokens, at + 3 < stop && end < after ? end : after) < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static PyObject *onset(Acceptance *self, PyObject *const *args, Py_ssize_t count)
{
    long long tokens = count == 2 ? PyLong_AsLongLong(args[1]) : 0;
    if (count != 2 || (tokens == -1 && PyErr_Occurred())) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "onset(window, tokens)");
        }
        return NULL;
    }
    if (self->sum > 0.0) {
        return PyLong_FromLongLong(self->onset < tokens ? self->onset : tokens);
    }
    if (args[0] == Py_None) {
        return PyLong_FromLong(0);
    }
    Window *found = (Window *)PyDict_GetItemWithError(self->views, args[0]);
    if (found == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetObject(PyExc_KeyError, args[0]);
        }
        return NULL;
    }
    long long first = tokens - found->tokens;
    return PyLong_FromLongLong(first > 0 ? first : 0);
}

static PyObject *get_windows(Acceptance *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->views);
}

static PyObject *get_evidence(Acceptance *self, void *Py_UNUSED(closure))
{
    return PyFloat_FromDouble(isnan(self->reference) ? NAN : self->sum);
}

static PyObject *get_fell(Acceptance *self, void *Py_UNUSED(closure))
{
    if (!self->doubts || !(self->sum > 0.0)) {
        Py_RETURN_NONE;
    }
    return PyLong_FromLongLong(self->onset);
}

static void free_acceptance(Acceptance *self)
{
    PyObject_GC_UnTrack(self);
    for (Py_ssize_t at = 0; at < self->count; at++) {
        Py_XDECREF(self->windows[at]);
    }
    PyMem_Free(self->windows);
    Py_XDECREF(self->views);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static int visit_acceptance(Acceptance *self, visitproc visit, void *arg)
{
    Py_VISIT(self->views);
    for (Py_ssize_t at = 0; at < self->count; at++) {
        Py_VISIT(self->windows[at]);
    }
    return 0;
}

/* One of its windows, from (key, size, by tokens, remembers); -1 with an error. */
static int add_window(Acceptance *self, PyObject *spec, double baseline)
{
    PyObject *key;
    long size;
    int by_tokens, remembers;
    if (!PyTuple_Check(spec)) {
        PyErr_SetString(PyExc_TypeError, "a window is (key, size, by tokens, remembers)");
        return -1;
    }
    if (!PyArg_ParseTuple(spec, "Olpp", &key, &size, &by_tokens, &remembers)) {
        return -1;
    }
    Window *made = new_window(size, by_tokens, remembers, baseline);
    if (made == NULL) {
        return -1;
    }
    self->windows[self->count++] = made;
    return PyDict_SetItem(self->views, key, (PyObject *)made);
}

static PyObject *new_acceptance(PyTypeObject *type, PyObject *args, PyObject *named)
{
    static char *names[] = {"", "", "", "", NULL};
    PyObject *specs;
    double baseline;
    Py_ssize_t lead;
    int deepest;
    if (!PyArg_ParseTupleAndKeywords(args, named, "O!dni", names, &PyTuple_Type, &specs, &baseline, &lead, &deepest)) {
        return NULL;
    }
    Py_ssize_t size = PyTuple_GET_SIZE(specs);
    Acceptance *self = (Acceptance *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->lead = -1;
    self->deepest = deepest;
    self->reference = NAN;
    self->views = PyDict_New();
    self->windows = PyMem_Calloc((size_t)size + 1, sizeof(Window *));
    if (self->views == NULL || self->windows == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    for (Py_ssize_t at = 0; at < size; at++) {
        if (add_window(self, PyTuple_GET_ITEM(specs, at), baseline) < 0) {
            Py_DECREF(self);
            return NULL;
        }
    }
    if (lead >= size || (lead >= 0 && self->windows[lead]->history == NULL)) {
        Py_DECREF(self);
        PyErr_SetString(PyExc_ValueError, "the leading window remembers nothing");
        return NULL;
    }
    self->lead = lead;
    set_reference(self, baseline);
    return (PyObject *)self;
}

static PyMethodDef acceptance_methods[] = {
    {"take_counts", QUICK(take_counts), "Take in verify steps of chunks with one each, three counts a step."},
    {"take", QUICK(take), "Take in verify steps, the first of which begins after `before` tokens."},
    {"onset", QUICK(onset), "Token at which the fall began, or the start of the window."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef acceptance_gets[] = {
    {"windows", (getter)get_windows, NULL, "The windows by their keys.", NULL},
    {"evidence", (getter)get_evidence, NULL, "Log likelihood ratio for a fall.", NULL},
    {"fell", (getter)get_fell, NULL, "Token at which a fall began; None while there is none.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject acceptance_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "guard.detect._steps.Acceptance",
    .tp_basicsize = sizeof(Acceptance),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "All acceptance windows of one choice: see guard.detect.acceptance.Acceptance.",
    .tp_new = new_acceptance,
    .tp_dealloc = (destructor)free_acceptance,
    .tp_traverse = (traverseproc)visit_acceptance,
    .tp_methods = acceptance_methods,
    .tp_getset = acceptance_gets,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "guard.detect._steps", NULL, -1, NULL, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__steps(void)
{
    name_accepted = PyUnicode_InternFromString("accepted");
    name_drafted = PyUnicode_InternFromString("drafted");
    name_tokens = PyUnicode_InternFromString("tokens");
    if (name_accepted == NULL || name_drafted == NULL || name_tokens == NULL) {
        return NULL;
    }
    if (PyType_Ready(&window_type) < 0 || PyType_Ready(&acceptance_type) < 0) {
        return NULL;
    }
    PyObject *made = PyModule_Create(&module);
    if (made != NULL && PyModule_AddType(made, &acceptance_type) < 0) {
        Py_CLEAR(made);
    }
    return made;
}
