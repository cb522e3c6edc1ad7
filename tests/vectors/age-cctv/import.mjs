// SPDX-License-Identifier: PostgreSQL
//
// Brings the vectors of the npm package cctv-age into this directory:
//   npm pack cctv-age@0.2.0 && tar xzf cctv-age-0.2.0.tgz
//   node import.mjs package/index.js
// Files that are compressed with zlib there are compressed with zstd here, so that the test needs no
// library that the programs do not link.
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { inflateSync } from "node:zlib";

const here = dirname(fileURLToPath(import.meta.url));
const vectors = await import(resolve(process.argv[2]));

for (const [name, bytes] of Object.entries(vectors)) {
    let file = Buffer.from(bytes);
    const end = file.indexOf("\n\n") + 2;
    const head = file.subarray(0, end).toString("latin1");

    if (/^compressed: zlib$/m.test(head)) {
        const body = execFileSync("zstd", ["-19", "--no-check", "-c"], {
            input: inflateSync(file.subarray(end)),
            maxBuffer: 1 << 26,
        });
        file = Buffer.concat([Buffer.from(head.replace("compressed: zlib", "compressed: zstd"), "latin1"), body]);
    }
    writeFileSync(join(here, name + ".age-test"), file);
}
