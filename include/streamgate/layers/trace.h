/* W3C Trace Context, level 1 (https://www.w3.org/TR/trace-context/): parse, continue, format. Pure but for randomness; thread-safe. */
#ifndef STREAMGATE_LAYERS_TRACE_H
#define STREAMGATE_LAYERS_TRACE_H

#include <stdbool.h>
#include <stdint.h>

struct sg_trace { uint8_t trace_id[16]; uint8_t span_id[8]; uint8_t parent_id[8]; uint8_t flags; bool has_parent; };
#define SG_TRACEPARENT_SIZE 56

/* header may be NULL or malformed: then a new trace begins. span_id is always new. */
void sg_trace_begin(const char *traceparent, struct sg_trace *out);
void sg_trace_format(const struct sg_trace *t, char out[SG_TRACEPARENT_SIZE]); /* "00-<trace>-<our span>-<flags>" */

#endif
