/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The status document of `walstream --status`; see service.h and walstream(1).
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "walstream/service.h"

static json_t *
status_time(int64_t wall_us)
{
    char text[40];

    return wall_us == 0 ? json_null() : json_string(clock_format_iso(wall_us, text, sizeof text));
}

static json_t *
status_lsn(Lsn lsn)
{
    char text[LSN_TEXT_BYTES];

    return lsn == LSN_INVALID ? json_null() : json_string(lsn_format(lsn, text, sizeof text));
}

/*
 * Seconds that the oldest byte which is not durable has waited, 0 when all that was received is
 * durable and the stream runs. An idle server is not behind.
 */
static double
status_lag_s(const ReceiverStatus *receiver, const LedgerPosition *ledger)
{
    int64_t oldest = ledger->oldest_us;

    if (receiver->waiting_since_us != 0 && (oldest == 0 || receiver->waiting_since_us < oldest))
        oldest = receiver->waiting_since_us;
    return oldest == 0 ? 0 : (double) (clock_monotonic_us() - oldest) / 1e6;
}

static json_t *
status_stream(const ReceiverStatus *receiver, const LedgerPosition *ledger)
{
    Lsn end = MAX(receiver->server_end, receiver->received);
    uint64_t lag_bytes =
        ledger->durable != LSN_INVALID && end > ledger->durable ? end - ledger->durable : 0;

    return json_pack(
        "{s:s, s:o, s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:I, s:f, s:f, s:f, s:I}", "state",
        receiver_state_name(receiver->state), "state_since", status_time(receiver->state_since_us),
        "server", receiver->server, "server_version", (json_int_t) receiver->server_version,
        "timeline", (json_int_t) receiver->tli, "received_lsn", status_lsn(receiver->received),
        "server_lsn", status_lsn(receiver->server_end), "durable_lsn", status_lsn(ledger->durable),
        "durable_at", status_time(ledger->durable_us), "lag_bytes", (json_int_t) lag_bytes,
        "lag_seconds", status_lag_s(receiver, ledger), "last_delay_seconds",
        (double) ledger->last_delay_us / 1e6, "max_delay_seconds",
        (double) ledger->max_delay_us / 1e6, "waiting_bytes", (json_int_t) receiver->waiting_bytes);
}

static json_t *
status_slot(const SlotState *slot)
{
    return json_pack(
        "{s:b, s:s, s:o, s:o}", "exists", (int) slot->exists, "wal_status", slot->wal_status,
        "restart_lsn", status_lsn(slot->restart_lsn), "safe_bytes",
        slot->safe_bytes < 0 ? json_null() : json_integer((json_int_t) slot->safe_bytes));
}

static json_t *
status_uploads(const UploaderState *uploads, const LedgerPosition *ledger)
{
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "in_flight", (json_int_t) uploads->running,
        "extents_open", (json_int_t) ledger->open, "queued_urgent",
        (json_int_t) uploads->queued[UPLOAD_URGENT], "queued_requested",
        (json_int_t) uploads->queued[UPLOAD_REQUESTED], "queued_background",
        (json_int_t) uploads->queued[UPLOAD_BACKGROUND], "queued_ahead",
        (json_int_t) uploads->queued[UPLOAD_AHEAD], "failing", (int) uploads->failing);
}

static json_t *
status_error(const UploaderState *uploads)
{
    if (uploads->last_error.kind == ERROR_NONE)
        return json_null();
    return json_pack(
        "{s:s, s:s, s:s, s:o}", "kind", error_kind_name(uploads->last_error.kind), "message",
        uploads->last_error.msg, "hint", uploads->last_error.hint, "at",
        status_time(uploads->last_error_us));
}

static json_t *
status_counters(const Counters *counters)
{
    json_t *doc = json_object();

#define STATUS_COUNTER(name, help)                                                                 \
    (void) json_object_set_new(                                                                    \
        doc, #name, json_integer((json_int_t) counter_read(&counters->name)));
    COUNTERS_LIST(STATUS_COUNTER)
#undef STATUS_COUNTER
    return doc;
}

static json_t *
status_requests(const Repository *repo)
{
    StoreCounters c = store_count_read(repo->counted);

    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "puts", (json_int_t) c.puts, "gets",
        (json_int_t) c.gets, "stats", (json_int_t) c.stats, "lists", (json_int_t) c.lists,
        "removes", (json_int_t) c.removes, "put_bytes", (json_int_t) c.put_bytes, "get_bytes",
        (json_int_t) c.get_bytes, "failures", (json_int_t) c.failures);
}

int
service_format_status(const ServiceOptions *options, char **out, Error *err)
{
    ReceiverStatus receiver = receiver_status(options->receiver);
    LedgerPosition ledger = ledger_position(options->ledger);
    UploaderState uploads = uploader_state(options->uploader);
    char sysid[32];

    (void) snprintf(sysid, sizeof sysid, "%" PRIu64, options->repo->description.system_identifier);

    json_t *doc = json_pack(
        "{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "version", WALSTREAM_VERSION,
        "cluster", options->cluster, "system_identifier", sysid, "repository", options->url,
        "started", status_time(options->started_us), "stream", status_stream(&receiver, &ledger),
        "slot", status_slot(&receiver.slot), "uploads", status_uploads(&uploads, &ledger),
        "last_error", status_error(&uploads), "counters", status_counters(options->counters),
        "store_requests", status_requests(options->repo));

    *out = doc != NULL ? json_dumps(doc, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(doc);
    return *out != NULL ? 0 : error_nomem(err);
}
