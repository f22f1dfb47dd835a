/* A process started for one transcoding: sandboxed already, it serves the one call and ends. */
#ifndef STREAMGATE_MEDIA_AV_TASK_H
#define STREAMGATE_MEDIA_AV_TASK_H

/* Returns the exit status. */
int sgav_task_serve(int sock);

#endif
