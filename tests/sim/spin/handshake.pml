/*
 * The abort handshake and block generations, stated a second time and apart from the Python code.
 *
 * One block of the decode side, attempts at requests one after the other (each with a new generation), RANKS ranks of a
 * producer that write the block one-sidedly. Channels lose, double and reorder messages; a rank may crash, and proof of
 * its death needs its network card to be flushed.
 *
 * Safety: no write lands in the block under another generation than the one it was issued for.
 * Liveness: every attempt ends with its block back (weak fairness, spin -f).
 *
 * Mutations, each of which spin must refute: -DNO_DEAD_FIRST -DNO_WAIT -DFIRST_ANSWER -DTIMEOUT_FREES -DNO_GENERATION, and
 * for liveness -DNO_RESEND
 */
#define RANKS 2
#define ATTEMPTS 2

byte gen = 0;                /* generation that has the block; 0: free */
byte used = 0;               /* generations given out */
bool aborting = false;
bit answered[RANKS];         /* this rank's share of the lease has settled */
byte asked[RANKS];           /* highest generation this rank was told the destination of; unordered, so a copy may stay */
byte dest[RANKS];            /* Destination under way, 0: none */
byte abrt[RANKS];            /* Abort under way */
byte back[RANKS];            /* answer under way */
byte back2[RANKS];           /* a second copy of an answer, which may arrive at any time */
byte dead[RANKS];            /* highest generation marked dead or finished */
byte writing[RANKS];         /* generation of the write in the network card, 0: none */
bit crashed[RANKS];
byte losses = 1;
byte crashes = 1;
byte copies = 2;

inline land(r) {
    atomic { writing[r] != 0 ->
        assert(writing[r] == gen);       /* safety */
        if
        :: !crashed[r] -> dead[r] = writing[r]; back[r] = writing[r]
        :: crashed[r]
        fi;
        writing[r] = 0
    }
}

#ifdef NO_GENERATION
#define FITS(r, g) (g != 0)
#else
#define FITS(r, g) (g != 0 && g == gen)
#endif

inline settle(r) {
    answered[r] = 1;
#ifdef FIRST_ANSWER
    answered[0] = 1; answered[1] = 1;
#endif
    if
    :: answered[0] && answered[1] -> gen = 0; aborting = false
    :: else
    fi
}

active proctype Decode() {
    byte r;
end:
    do
    :: atomic { gen == 0 && used < ATTEMPTS ->       /* admit: a new generation gets the block */
            used++; gen = used; aborting = false;
            for (r : 0 .. RANKS - 1) { answered[r] = crashed[r]; dest[r] = (crashed[r] -> 0 : gen) }
            if
            :: answered[0] && answered[1] -> gen = 0
            :: else
            fi;
            r = 0 }
    :: atomic { gen != 0 && !aborting ->             /* abort, or a deadline */
            aborting = true;
            for (r : 0 .. RANKS - 1) { if :: !answered[r] -> abrt[r] = gen :: else fi }
            r = 0 }
#ifndef NO_RESEND
    :: atomic { gen != 0 && aborting && !answered[0] && !crashed[0] && abrt[0] == 0 && back[0] == 0 && writing[0] == 0 ->
            abrt[0] = gen }                          /* resend */
    :: atomic { gen != 0 && aborting && !answered[1] && !crashed[1] && abrt[1] == 0 && back[1] == 0 && writing[1] == 0 ->
            abrt[1] = gen }
#endif
#ifdef TIMEOUT_FREES
    :: atomic { gen != 0 && aborting -> gen = 0; aborting = false }
#endif
    :: atomic { gen != 0 && crashed[0] && writing[0] == 0 && !answered[0] -> settle(0) }   /* proof */
    :: atomic { gen != 0 && crashed[1] && writing[1] == 0 && !answered[1] -> settle(1) }
    :: atomic { back[0] != 0 -> if :: FITS(0, back[0]) && gen != 0 && !answered[0] -> settle(0) :: else fi; back[0] = 0 }
    :: atomic { back[1] != 0 -> if :: FITS(1, back[1]) && gen != 0 && !answered[1] -> settle(1) :: else fi; back[1] = 0 }
    od
}

/* The producer's side of rank r; its network card is Card below. */
active [RANKS] proctype Prefill() {
    byte r = _pid - 1;
end:
    do
    :: atomic { !crashed[r] && dest[r] != 0 ->       /* Destination: refused if a tombstone stands */
            if
            :: dest[r] > dead[r] -> asked[r] = dest[r]
            :: else
            fi;
            dest[r] = 0 }
    :: atomic { !crashed[r] && writing[r] == 0 && asked[r] > dead[r] ->   /* post the write */
            writing[r] = asked[r];
            asked[r] = 0 }
    :: atomic { !crashed[r] && abrt[r] != 0 ->
            if
            :: writing[r] == abrt[r] ->              /* the answer comes with the landing */
#ifdef NO_WAIT
                back[r] = abrt[r];
#endif
                skip
            :: else ->
#ifndef NO_DEAD_FIRST
                if :: abrt[r] > dead[r] -> dead[r] = abrt[r] :: else fi;
#endif
                back[r] = abrt[r]
            fi;
            abrt[r] = 0 }
    :: crashed[r] -> break
    od
}

/* The network card: what is posted lands, whatever becomes of the process. */
active [RANKS] proctype Card() {
    byte r = _pid - 1 - RANKS;
end:
    do
    :: land(r)
    od
}

/* Faults: loss, a second copy of an answer, crashes. */
active proctype Faults() {
end:
    do
    :: atomic { losses > 0 && dest[0] != 0 -> losses--; dest[0] = 0 }
    :: atomic { losses > 0 && abrt[0] != 0 -> losses--; abrt[0] = 0 }
    :: atomic { losses > 0 && back[0] != 0 -> losses--; back[0] = 0 }
    :: atomic { copies > 0 && back[0] != 0 && back2[0] == 0 -> copies--; back2[0] = back[0] }
    :: atomic { back2[0] != 0 && back[0] == 0 -> back[0] = back2[0]; back2[0] = 0 }
    :: atomic { crashes > 0 -> crashes--; crashed[1] = 1; dest[1] = 0; abrt[1] = 0 }
    od
}

ltl returns { [] (gen != 0 -> <> (gen == 0)) }
