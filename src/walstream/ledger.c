/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The ledger of extents; see ledger.h.
 */
#include "walstream/ledger.h"

#include <stdlib.h>
#include <time.h>

struct LedgerEntry
{
    LedgerEntry *next;
    Lsn end;
    int64_t received_us;
    bool done;
    bool abandoned; /* nobody will complete it */
    bool forgotten; /* of an earlier stream: freed by its completion */
};

int
ledger_init(Ledger *ledger, void (*advanced)(void *ctx), void *ctx, Error *err)
{
    *ledger = (Ledger){.advanced = advanced, .advanced_ctx = ctx};
    if (pthread_mutex_init(&ledger->lock, NULL) != 0)
        return error_nomem(err);
    if (clock_cond_init(&ledger->changed) != 0)
    {
        (void) pthread_mutex_destroy(&ledger->lock);
        return error_nomem(err);
    }
    return 0;
}

/* Lock held. Entries that nobody holds are freed here, the others by their completion. */
static void
ledger_forget_all(Ledger *ledger)
{
    LedgerEntry *entry = ledger->head;

    while (entry != NULL)
    {
        LedgerEntry *next = entry->next;

        entry->next = NULL;
        if (entry->done || entry->abandoned)
            free(entry);
        else
            entry->forgotten = true;
        entry = next;
    }
    ledger->head = ledger->tail = NULL;
    ledger->open = 0;
    ledger->failed = false;
}

void
ledger_destroy(Ledger *ledger)
{
    (void) pthread_mutex_lock(&ledger->lock);
    ledger_forget_all(ledger);
    (void) pthread_mutex_unlock(&ledger->lock);
    (void) pthread_cond_destroy(&ledger->changed);
    (void) pthread_mutex_destroy(&ledger->lock);
}

void
ledger_restart(Ledger *ledger, TimelineId tli, Lsn durable)
{
    (void) pthread_mutex_lock(&ledger->lock);
    ledger_forget_all(ledger);
    ledger->tli = tli;
    ledger->durable = durable;
    (void) pthread_cond_broadcast(&ledger->changed);
    (void) pthread_mutex_unlock(&ledger->lock);
}

int
ledger_append(Ledger *ledger, Lsn end, int64_t received_us, LedgerEntry **out, Error *err)
{
    LedgerEntry *entry = calloc(1, sizeof *entry);

    if (entry == NULL)
        return error_nomem(err);
    entry->end = end;
    entry->received_us = received_us;

    (void) pthread_mutex_lock(&ledger->lock);
    if (ledger->tail != NULL)
        ledger->tail->next = entry;
    else
        ledger->head = entry;
    ledger->tail = entry;
    ledger->open++;
    (void) pthread_mutex_unlock(&ledger->lock);
    *out = entry;
    return 0;
}

void
ledger_complete(Ledger *ledger, LedgerEntry *entry)
{
    bool moved = false;

    (void) pthread_mutex_lock(&ledger->lock);
    if (entry->forgotten)
    {
        (void) pthread_mutex_unlock(&ledger->lock);
        free(entry);
        return;
    }
    entry->done = true;
    ledger->open--;
    while (ledger->head != NULL && ledger->head->done)
    {
        LedgerEntry *first = ledger->head;

        ledger->head = first->next;
        if (ledger->head == NULL)
            ledger->tail = NULL;
        /* a new timeline's first segment repeats bytes that were durable under the old one */
        if (first->end > ledger->durable)
        {
            ledger->durable = first->end;
            ledger->last_delay_us = clock_monotonic_us() - first->received_us;
            ledger->max_delay_us = MAX(ledger->max_delay_us, ledger->last_delay_us);
            moved = true;
        }
        free(first);
    }
    if (moved)
        ledger->durable_us = clock_wall_us();
    (void) pthread_cond_broadcast(&ledger->changed);
    (void) pthread_mutex_unlock(&ledger->lock);
    if (moved && ledger->advanced != NULL)
        ledger->advanced(ledger->advanced_ctx);
}

void
ledger_abandon(Ledger *ledger, LedgerEntry *entry)
{
    bool forgotten;

    (void) pthread_mutex_lock(&ledger->lock);
    forgotten = entry->forgotten;
    entry->abandoned = true;
    if (!forgotten)
    {
        ledger->failed = true;
        (void) pthread_cond_broadcast(&ledger->changed);
    }
    (void) pthread_mutex_unlock(&ledger->lock);
    if (forgotten)
        free(entry);
}

LedgerPosition
ledger_position(Ledger *ledger)
{
    LedgerPosition position;

    (void) pthread_mutex_lock(&ledger->lock);
    position = (LedgerPosition){
        .tli = ledger->tli,
        .durable = ledger->durable,
        .open = ledger->open,
        .failed = ledger->failed,
        .oldest_us = ledger->head != NULL ? ledger->head->received_us : 0,
        .durable_us = ledger->durable_us,
        .last_delay_us = ledger->last_delay_us,
        .max_delay_us = ledger->max_delay_us};
    (void) pthread_mutex_unlock(&ledger->lock);
    return position;
}

int
ledger_wait_empty(Ledger *ledger, const Deadline *dl, Error *err)
{
    int rc = 0;

    (void) pthread_mutex_lock(&ledger->lock);
    while (ledger->open > 0 && rc == 0)
    {
        rc = ledger->failed ? error_set(err, ERROR_CANCELED, "an upload was given up")
                            : deadline_check(dl, "waiting for uploads", err);
        if (rc == 0)
            deadline_cond_wait(dl, &ledger->changed, &ledger->lock);
    }
    (void) pthread_mutex_unlock(&ledger->lock);
    return rc;
}
