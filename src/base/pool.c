/* Named threads and one FIFO. lock guards head, tail, queued and stopping; wake is signalled when
 * one of them changes. Work runs without the lock. */
#include "streamgate/base/pool.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POOL_QUEUED_DEFAULT ((size_t)65536)
#define POOL_NAME_MAX 11

struct job {
    struct job *next;
    void (*fn)(void *arg);
    void *arg;
};

struct sg_pool {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct job *head, **tail;
    size_t queued, max_queued;
    bool stopping;
    unsigned n_threads; /* started and to be joined */
    pthread_t threads[];
};

static void *run(void *arg)
{
    struct sg_pool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->head == NULL && !pool->stopping)
            pthread_cond_wait(&pool->wake, &pool->lock);
        struct job *job = pool->head;
        if (job == NULL)
            break;
        pool->head = job->next;
        if (pool->head == NULL)
            pool->tail = &pool->head;
        pool->queued--;
        pthread_mutex_unlock(&pool->lock);
        job->fn(job->arg);
        free(job);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

enum sg_error sg_pool_create(const struct sg_pool_params *params, struct sg_pool **out)
{
    if (params->threads == 0 || strlen(params->name) > POOL_NAME_MAX)
        return SG_ERR_INVALID;
    struct sg_pool *pool = calloc(1, sizeof(*pool) + params->threads * sizeof(pool->threads[0]));
    if (pool == NULL)
        return SG_ERR_NO_MEMORY;
    pool->tail = &pool->head;
    pool->max_queued = params->max_queued > 0 ? params->max_queued : POOL_QUEUED_DEFAULT;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    for (unsigned i = 0; i < params->threads; i++) {
        if (pthread_create(&pool->threads[i], NULL, run, pool) != 0) {
            sg_pool_destroy(&pool);
            return SG_ERR_UNAVAILABLE;
        }
        pool->n_threads++;
        char name[16];
        snprintf(name, sizeof(name), "%s-%u", params->name, i);
        pthread_setname_np(pool->threads[i], name);
    }
    *out = pool;
    return SG_OK;
}

enum sg_error sg_pool_submit(struct sg_pool *pool, void (*fn)(void *arg), void *arg)
{
    struct job *job = malloc(sizeof(*job));
    if (job == NULL)
        return SG_ERR_NO_MEMORY;
    *job = (struct job){.fn = fn, .arg = arg};
    pthread_mutex_lock(&pool->lock);
    bool taken = !pool->stopping && pool->queued < pool->max_queued;
    if (taken) {
        *pool->tail = job;
        pool->tail = &job->next;
        pool->queued++;
        pthread_cond_signal(&pool->wake);
    }
    pthread_mutex_unlock(&pool->lock);
    if (!taken) {
        free(job);
        return SG_ERR_UNAVAILABLE;
    }
    return SG_OK;
}

size_t sg_pool_queued(struct sg_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    size_t n = pool->queued;
    pthread_mutex_unlock(&pool->lock);
    return n;
}

void sg_pool_destroy(struct sg_pool **pool)
{
    if (pool == NULL || *pool == NULL)
        return;
    struct sg_pool *p = *pool;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->n_threads; i++)
        pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p);
    *pool = NULL;
}
