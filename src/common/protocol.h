/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What walpush and `walstream --status` say to a running walstream over its socket: one message,
 * one line of text, each.
 *
 * - "PUSH 1 <file name> <timeout ms> <cluster> <url>", with the open file and the data directory:
 *   - "WAIT": at once, and every second while it works, so that a walstream that was stopped or
 *     hangs is told apart from a slow store
 *   - "OK <how>": durable; how: "stream", "ahead", "uploaded"
 *   - "ERROR <kind> TAB <message> TAB <hint>"
 *   - "OTHER": serves another cluster or repository; "STOPPING": ends; do it without me
 * - "STATUS 1": the status as JSON
 */
#ifndef WALSTREAM_PROTOCOL_H
#define WALSTREAM_PROTOCOL_H

#define PROTOCOL_VERSION "1"
#define PROTOCOL_WAIT_EVERY_MS 1000
#define PROTOCOL_SILENCE_MS 5000 /* without a word: walpush does it alone */
#define PROTOCOL_FIRST_MS 2000   /* until the first word */

#endif
