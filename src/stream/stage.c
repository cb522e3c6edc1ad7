/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The state machine around stages; see stage.h.
 */
#include "stream/stage.h"

void
stage_init(Stage *st, const StageOps *ops, Stage *next)
{
    st->ops = ops;
    st->next = next;
    st->state = STAGE_OPEN;
    st->bytes_in = 0;
}

int
stage_write(Stage *st, const void *buf, size_t len, Error *err)
{
    assert(st->state == STAGE_OPEN);
    if (len == 0)
        return 0;
    st->bytes_in += len;
    if (st->ops->write(st, buf, len, err) == 0)
        return 0;
    st->state = STAGE_FAILED; /* sticky: only free is allowed from here on */
    return -1;
}

int
stage_finish(Stage *st, Error *err)
{
    for (; st != NULL; st = st->next)
    {
        assert(st->state == STAGE_OPEN);
        if (st->ops->finish != NULL && st->ops->finish(st, err) < 0)
        {
            st->state = STAGE_FAILED;
            return -1;
        }
        st->state = STAGE_FINISHED;
    }
    return 0;
}

void
stage_free(Stage *st)
{
    while (st != NULL)
    {
        Stage *next = st->next;

        if (st->ops->destroy != NULL)
            st->ops->destroy(st);
        st = next;
    }
}
