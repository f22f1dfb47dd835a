/* A plan and what a process would tell of it; and a process that tells it, sandboxed as the real
 * one. */
#ifndef STREAMGATE_TESTS_MEDIA_TRANSCODE_SUPPORT_H
#define STREAMGATE_TESTS_MEDIA_TRANSCODE_SUPPORT_H

#include "transcode_wire.h"

#define TRANSCODE_TEST_ARG "transcode-test"

enum { HAND_INIT_BYTES = 700, HAND_SEGMENT_BYTES = 1000, HAND_SEGMENTS = 3 };

/* What the process makes of a plan; passed in the plan's `threads`. */
enum hand_scenario {
    HAND_GOOD = 1,
    HAND_HANG,
    HAND_NO_SPACE,
    HAND_INTERNAL,
    HAND_FAR_SEGMENT, /* not in its file */
    HAND_WRONG_SIZE,  /* in the result */
    HAND_GARBAGE,
};

/* Two outputs: H.264 with its live file, and a sound copied. Files are memfds. */
struct hand_plan {
    struct sg_transcode t;
    int fds[4];
};
void hand_plan_open(struct hand_plan *h);
void hand_plan_close(struct hand_plan *h);
/* Gives the files the sizes that the events and the result below tell of. */
void hand_plan_grow(struct hand_plan *h);

struct sg_transcode_event hand_track(void);
struct sg_transcode_event hand_segment(uint32_t number);
struct sg_transcode_result hand_result(void);

/* Runs the process when argv says so; otherwise -1. */
int transcode_worker_main(int argc, char **argv);

#endif
