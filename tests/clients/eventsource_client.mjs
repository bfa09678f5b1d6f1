// Reads a session's events with the `eventsource` package: first with a header, then, as a browser must, with a one-time
// ticket. Prints each token as it comes, then `done` and the whole text.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import path from "node:path";

const modules = createRequire(pathToFileURL(path.join(process.env.OXIOS_NODE_MODULES, "x.js")));
const { EventSource } = modules("eventsource");
const base = process.env.OXIOS_URL;
const authorization = { Authorization: `Bearer ${process.env.OXIOS_KEY}` };
const events = `${base}/api/sessions/${process.env.OXIOS_SESSION}/events`;

function read(url, headers, first, wanted) {
  return new Promise((resolve, reject) => {
    const source = new EventSource(url, {
      fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...headers } }),
    });
    source.onerror = (error) => { source.close(); reject(new Error(`${url}: ${error.code} ${error.message}`)); };
    source.onmessage = (event) => {
      const record = JSON.parse(event.data);
      if (event.lastEventId !== String(record.seq)) reject(new Error(`id ${event.lastEventId} is not seq ${record.seq}`));
      first(record);
      if (wanted(record)) { source.close(); resolve(record); }
    };
  });
}

// Once with a header, until the first token; then from there with a ticket.
let text = "";
let last = 0;
const piece = (record) => {
  last = record.seq;
  if (record.kind === "token") { text += record.text; console.log("token", record.text); }
};
await read(events, authorization, (record) => { last = record.seq; if (record.kind === "token") text += record.text; }, (r) => r.kind === "token");
const answer = await fetch(`${base}/api/chat/ticket`, { method: "POST", headers: authorization });
const { ticket } = await answer.json();
console.log("first piece seen");
const done = await read(`${events}?after=${last}&ticket=${ticket}`, {}, piece, (r) => r.kind === "done");
if (done.text !== text && !done.text.startsWith(text)) throw new Error(`${done.text} is not ${text}`);
console.log("done", done.text);
process.exit(0);
