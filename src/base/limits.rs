//! Every cap of the product: its unit is in the name, its reason in the doc. Relations are asserted at compile time.
//! A room that needs a cap adds it here.

use std::time::Duration;

/// Largest decoded text of one user message (API A3), in UTF-8 bytes.
pub const CONTENT_BYTES_MAX: usize = 64 * 1024;
/// A chat body: the content fits even when every byte is a JSON escape of six.
pub const CHAT_BODY_BYTES_MAX: usize = 512 * 1024;
/// The body of `POST /v1/chat/completions`: a client sends the whole conversation each time.
pub const COMPLETION_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Messages of such a conversation that begin a session of model `oxios`: so many turns as an open session remembers. Each takes some
/// 300 bytes of the log beside its text.
pub const HISTORY_MESSAGES_MAX: usize = 2 * MESSAGE_IDS_KEPT;
/// What such a client tells the agent for the whole conversation (its system messages), in bytes; for the same reason as a persona's prompt.
pub const INSTRUCTIONS_BYTES_MAX: usize = 8 * 1024;
/// Calls of a plain model (`/v1`) at once in the whole process; more is 503. Each holds a connection to a model's server.
pub const PLAIN_CALLS_MAX: usize = 32;
/// A JSON body of a route that says nothing else.
pub const JSON_BODY_BYTES_MAX: usize = 64 * 1024;
/// The body of a login, the one that is read before anybody knows whose it is: a token of 512 bytes, where each is an escape of six,
/// fits. Every stranger may send it at the same time.
pub const LOGIN_BODY_BYTES_MAX: usize = 4 * 1024;
/// config.toml: a thousand times what all keys take.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// A key that a service manager hands over as a file: keys of providers have some 200 characters, signed tokens some 2,000.
pub const CREDENTIAL_BYTES_MAX: u64 = 4096;
/// What the server says of its health when it asks itself: a hundred times what that takes.
pub const HEALTH_BYTES_MAX: usize = 8 * 1024;
/// Deepest nesting of a JSON body: no documented shape is deeper than 8, and a parser must not recurse at a stranger's will.
pub const JSON_DEPTH_MAX: usize = 64;
/// A WebSocket message or frame (API A3): the same as a chat body.
pub const WS_MESSAGE_BYTES_MAX: usize = 512 * 1024;
/// The read buffer of one WebSocket: large enough for a chat line, small enough for a thousand idle sockets.
pub const WS_READ_BUFFER_BYTES: usize = 2 * 1024;

/// Request target; longer is 414.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;
/// All header bytes of a request, request line included; more is 431.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Header fields of a request; more is 431.
pub const HEADER_FIELDS_MAX: usize = 64;

/// Names of fields that a listed page wants to send, in bytes; the official clients name some 300.
pub const CORS_FIELDS_BYTES_MAX: usize = 2 * 1024;

/// Messages that wait in one session's lane; more is 429.
pub const LANE_MESSAGES_MAX: usize = 16;
/// Messages that wait in the whole process; more is 503.
pub const WAITING_ROOM_MAX: usize = 128;
/// Attachments named by one message.
pub const ATTACHMENTS_MAX: usize = 8;
/// A `user_id`, an `Idempotency-Key` or another label that a client chooses, in bytes.
pub const LABEL_BYTES_MAX: usize = 256;

/// The largest seq. Clients that read JSON numbers as doubles tell every smaller one from its neighbours; no session gets there by
/// itself (a thousand records a second take 285,000 years), so a line with a larger one is damaged.
pub const SEQ_MAX: u64 = (1 << 53) - 1;
/// Seqs that each `message` record reserves: pieces shown to readers before a crash never get a number again (DESIGN §2).
pub const SEQ_RESERVATION: u64 = 4096;
/// Message ids that an open session remembers for idempotency (DESIGN §2).
pub const MESSAGE_IDS_KEPT: usize = 1024;
/// A tool result above this lies in a file of its own (DESIGN §2).
pub const RESULT_INLINE_BYTES_MAX: usize = 16 * 1024;
/// A tool result above this is cut before it is kept or shown to the model.
pub const RESULT_BYTES_MAX: usize = 256 * 1024;
/// One line of the session log; a longer one is damage, not data.
pub const LOG_LINE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Nesting of a record: what a client or a model may send and what stands around it; a parser gives up at 128.
pub const LOG_DEPTH_MAX: usize = JSON_DEPTH_MAX + 32;
/// The visible answer of one turn; the model is stopped there.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// One event of a model's stream, or a model's answer that is not streamed: an answer fits even when every byte is a JSON escape of six.
pub const MODEL_EVENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Body of a model server's error that is read to find out what it means.
pub const MODEL_ERROR_BYTES_MAX: usize = 64 * 1024;
/// What a model says of the likelihood of its words (`logprobs` of a plain call), bytes in memory: some 2,000 tokens with 20 others
/// beside each.
pub const LOGPROBS_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The name of a model with its provider, bytes.
pub const MODEL_NAME_BYTES_MAX: usize = 256;
/// What a provider lists on `/v1/models` is kept for so long: clients ask at each start, and models come seldom.
pub const OFFERS_KEPT: Duration = Duration::from_secs(60);
/// One that could not be asked is asked again after this.
pub const OFFERS_RETRY: Duration = Duration::from_secs(10);
/// A provider that does not list its models in this time is left out of the list.
pub const OFFERED_WITHIN: Duration = Duration::from_secs(5);
/// A model server's list of models.
pub const MODEL_LIST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Recent records of one session kept in memory for its live readers; older ones are read from disk.
pub const SESSION_RING_BYTES_MAX: usize = 64 * 1024;
/// A projection up to this size is current before `done` is sent (DESIGN §2).
pub const PROJECTION_EAGER_BYTES_MAX: u64 = 64 * 1024;
/// A session file that is imported; larger ones are set aside with a reason.
pub const IMPORT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Free space under which new messages are refused: what running turns still write fits (DESIGN §2).
pub const SPACE_BYTES_MIN: u64 = 1024 * 1024;
/// The reserve file: given up when the disk is full, it pays for terminal records, cancels and approvals.
pub const RESERVE_BYTES: u64 = 1024 * 1024;
/// Records of one message that are read back at once for its run; more than any budget of a run leaves.
pub const RUN_RECORDS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long the id of a deleted session is refused, in hours: a late retry must not bring it back (DESIGN §2).
pub const TOMBSTONE_HOURS: u64 = 24;
/// Sessions without reader and run that stay open for the next request.
pub const SESSIONS_IDLE_OPEN_MAX: usize = 16;
/// Keys of a home, of which those that were revoked or ran out go first; each is compared at every request.
pub const KEYS_MAX: usize = 1000;
/// `keys.json`; a key's record takes about 500 bytes.
pub const KEYS_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Tokens of one budget: more than any server writes in a month, and exact in every JSON reader.
pub const BUDGET_TOKENS_MAX: u64 = 1_000_000_000_000;
/// A budget is set aside on the disk in so many parts: few enough that most model calls write nothing, enough that a crash costs
/// little of it.
pub const BUDGET_PARTS: u64 = 64;
/// Tokens of such a part at the least, so that a small budget is not written at every call either …
pub const BUDGET_PART_TOKENS_MIN: u64 = 4096;
/// … but it is one of so many in any case: a crash must not cost all of it.
pub const BUDGET_PARTS_MIN: u64 = 16;
/// A budget of which no call is under way for so long rests: then its exact use is written down. Long enough that calls of one run do
/// not pay for it, short enough that a crash of an idle server costs nothing.
pub const BUDGET_REST: Duration = Duration::from_secs(2);
/// `budgets.json`; a key's books take about 130 bytes.
pub const BUDGETS_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What a pax header of a backup says: a path of 2 KiB, and a size.
pub const BACKUP_PAX_BYTES_MAX: usize = 4096;
/// A list in a backup is closed once it has so many bytes (some 1,200 files): who writes and who reads hold one at a time.
pub const BACKUP_LIST_BYTES: usize = 256 * 1024;
/// One line of such a list: a path of 2 KiB where every byte is a JSON escape of two, and what stands around it.
pub const BACKUP_LINE_BYTES_MAX: usize = 8 * 1024;
/// The first and the last entry of a backup: ten times what they take.
pub const BACKUP_ENDS_BYTES_MAX: usize = 8 * 1024;
/// What of a backup is read or written at once.
pub const BACKUP_PIECE_BYTES: usize = 256 * 1024;
/// How often a backup is begun anew because a file was cut or a directory exchanged while it was read: that takes seconds, and comes
/// from an install or an update, not all the time.
pub const BACKUP_TRIES: u32 = 3;

/// One segment of the audit log: small enough to copy and to read in a moment, some 25,000 records.
pub const AUDIT_SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
/// The end of the newest segment is read in pieces of this size to find the last whole record at start.
pub const AUDIT_TAIL_BYTES: u64 = 64 * 1024;
/// Records that one answer of `POST /api/audit/export` holds, in bytes; the command line exports without a bound.
pub const AUDIT_EXPORT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Records that wait in memory for a disk that takes none; nothing new is let in meanwhile, so these are what was under way.
pub const AUDIT_WAITING_MAX: usize = 4096;

/// A file that a tool reads for the model.
pub const FILE_READ_BYTES_MAX: usize = 64 * 1024;
/// A file that a tool or the API writes.
pub const FILE_WRITE_BYTES_MAX: usize = 1024 * 1024;
/// One memory entry (API A7).
pub const MEMORY_BYTES_MAX: usize = 32 * 1024;
/// A skill's name, in letters; it is the name of a directory and is written into prompts.
pub const SKILL_NAME_CHARS_MAX: usize = 64;
/// One SKILL.md (API A7).
pub const SKILL_BYTES_MAX: usize = 64 * 1024;
/// What a scheduled task sends, in bytes: it and the task fit a JSON body where every byte is an escape of six.
pub const CRON_CONTENT_BYTES_MAX: usize = 8 * 1024;
/// Scheduled tasks of one owner.
pub const CRON_JOBS_MAX: usize = 100;
/// Runs of a scheduled task that it remembers; their sessions stay as long as any other.
pub const CRON_RUNS_KEPT: usize = 20;
/// Tool servers in the configuration.
pub const MCP_SERVERS_MAX: usize = 32;
/// Header fields that one server's requests get from the configuration.
pub const MCP_FIELDS_MAX: usize = 32;
/// One of them, name and value, in bytes: what most servers take of a field.
pub const MCP_FIELD_BYTES_MAX: usize = 8 * 1024;
/// Tool servers that are kept at once, of all owners: each may be a program of some 50 MB. Where there are more, the one that was
/// not used for longest is ended.
pub const MCP_KEPT_MAX: usize = 64;
/// Tools of one server; more than a model can choose from.
pub const MCP_TOOLS_MAX: usize = 128;
/// Pages of one server's list of tools.
pub const MCP_PAGES_MAX: usize = 32;
/// One message of a tool server, in bytes; a server that sends a larger one is ended.
pub const MCP_MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Requests to one server that wait for their answers.
pub const MCP_PENDING_MAX: usize = 32;
/// Messages in one JSON-RPC batch.
pub const MCP_BATCH_MAX: usize = 32;
/// What a server says about one of its tools, in bytes.
pub const MCP_DESCRIPTION_BYTES_MAX: usize = 2 * 1024;
/// The schema of one tool's arguments, in bytes.
pub const MCP_SCHEMA_BYTES_MAX: usize = 32 * 1024;

/// Page size of lists when none is given.
pub const PAGE_DEFAULT: usize = 50;
/// Largest page; a larger wish is cut.
pub const PAGE_MAX: usize = 500;

/// A path beneath the workspace, in bytes: what Linux takes in one call (PATH_MAX).
pub const PATH_BYTES_MAX: usize = 4096;
/// One segment of a path, in bytes (NAME_MAX of every common file system).
pub const NAME_BYTES_MAX: usize = 255;
/// A file leaves the server in pieces of this size, so that a large one is never whole in memory.
pub const FILE_CHUNK_BYTES: usize = 64 * 1024;
/// Entries of one directory that are listed.
pub const DIR_ENTRIES_MAX: usize = 10_000;
/// Files that one search looks into; on a slow card this is about a second.
pub const SEARCH_FILES_MAX: usize = 2_000;
/// Bytes that one search reads.
pub const SEARCH_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A file larger than this is data, not text to cite; a search passes it by.
pub const SEARCH_FILE_BYTES_MAX: usize = 1024 * 1024;
/// How long one search may take, in milliseconds; what was found by then is the answer.
pub const SEARCH_MILLIS_MAX: u64 = 2_000;
/// Directories within directories that a search follows.
pub const SEARCH_DEPTH_MAX: usize = 16;
/// Bytes of session logs that one search reads; from a slow card about as much as its time allows.
pub const SESSION_SEARCH_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// A session that is sent here to be imported: some 120 of the longest messages, thousands of others. It is held about three times, as
/// what came, as texts and as a log, and only a key that may write sends one; a longer one may be put into the home as a file.
pub const SESSION_IMPORT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Values in a JSON text from a client, a model or a tool server: as a tree an object of 8 bytes takes 700, so these take 25 MB at most.
/// 128 tools with their schemas, or 2,048 messages, are half of it.
pub const JSON_VALUES_MAX: usize = 65_536;
/// The same of a session that is imported: eight for each message.
pub const IMPORT_VALUES_MAX: usize = 8 * IMPORT_MESSAGES_MAX;
/// Messages and answers of such a session: each becomes a record or two, which cost far more than the 15 bytes that one may have there.
pub const IMPORT_MESSAGES_MAX: usize = 32_768;
/// The log of an imported session may take so many times the bytes that came: a short line with a time, to which nobody answered, takes
/// nearly so much …
pub const IMPORT_LOG_TIMES_MAX: usize = 8;
/// … and so many bytes in any case: as many messages as may be sent, of a letter each, are half of it.
pub const IMPORT_LOG_BYTES_MIN: usize = 32 * 1024 * 1024;
/// A search in sessions, in characters: encoded in a request target, where one may take twelve bytes, it fits.
pub const SEARCH_CHARS_MAX: usize = 512;
/// Words of a query that are compared.
pub const QUERY_WORDS_MAX: usize = 32;
/// Results of one search or recall.
pub const HITS_MAX: usize = 50;
/// Characters of a line that a search cites.
pub const CITED_CHARS_MAX: usize = 240;
/// Open approvals of one owner: more than a person can look through.
pub const APPROVALS_PENDING_MAX: usize = 100;
/// Approvals kept in all; the oldest decided ones go first (the session logs still have them).
pub const APPROVALS_KEPT_MAX: usize = 500;
/// One approval's file: what it shows is a whole new file in JSON, where a byte may take six.
pub const APPROVAL_FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Arguments of a call to another server's tool, in bytes; what a person would have to read where it is risky.
pub const FOREIGN_ARGUMENT_BYTES_MAX: usize = 64 * 1024;
/// Agents kept in the whole home, the newest; the session logs have all of them. 300 KB in memory.
pub const AGENTS_KEPT_MAX: usize = 1000;
/// Agents that one task is split into; with more of them each one's share of the run's model calls looks nothing up any more.
pub const GROUP_MAX: usize = 8;
/// Lines of their file: beyond that it is made anew, once for every thousand runs or more.
pub const AGENT_LINES_MAX: usize = 4 * AGENTS_KEPT_MAX;
/// Their file: the lines above at their longest, twice.
pub const AGENT_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Specifications that are listed, the newest; older ones are found by their ids. About 1 MB in memory where there are so many.
pub const SEEDS_LISTED_MAX: usize = 10_000;
/// Specifications of one lineage that are shown.
pub const LINEAGE_MAX: usize = 64;
/// One seed's or evaluation's file.
pub const SEED_BYTES_MAX: u64 = 1024 * 1024;
/// Memories of one owner; their index then takes about 10 MB, and never more than 45.
pub const MEMORY_ENTRIES_MAX: usize = 10_000;
/// One memory's file: its content where every byte is a JSON escape of six, and its fields.
pub const MEMORY_FILE_BYTES_MAX: u64 = 256 * 1024;
/// Tags of one memory.
pub const TAGS_MAX: usize = 16;
/// One tag, in bytes.
pub const TAG_BYTES_MAX: usize = 64;
/// A search in memory: more is no question, and every word of it is compared.
pub const QUERY_BYTES_MAX: usize = 4096;
/// The body of a new memory: its content fits even when every byte is a JSON escape of six.
pub const MEMORY_BODY_BYTES_MAX: usize = 256 * 1024;
/// What is sent of one text to an embedding model: about 512 tokens, which the smallest of them take.
pub const EMBEDDED_BYTES_MAX: usize = 2 * 1024;
/// Texts that one search sends to an embedding model.
pub const EMBEDDINGS_AT_ONCE: usize = 32;
/// Vectors of memories that are kept, in bytes: 10,000 of 1,536 numbers; in memory only where an embedding model is set.
pub const VECTORS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Characters of a memory that a list shows.
pub const PREVIEW_CHARS_MAX: usize = 120;
/// A persona's prompt, in bytes: about 2,000 tokens, a quarter of a small model's context.
pub const PERSONA_PROMPT_BYTES_MAX: usize = 8 * 1024;
/// Personas of one owner.
pub const PERSONAS_MAX: usize = 100;
/// A space's context, in bytes; for the same reason as a persona's prompt.
pub const SPACE_CONTEXT_BYTES_MAX: usize = 8 * 1024;
/// Spaces of one owner, archived ones too.
pub const SPACES_MAX: usize = 200;
/// A description, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 1024;
/// One persona's or space's file: its texts where every byte is a JSON escape of six, and its fields.
pub const SHELF_FILE_BYTES_MAX: u64 = 128 * 1024;
/// Front matter of one file, in bytes; the longest ones seen in public collections have 3 KB.
pub const FRONT_MATTER_BYTES_MAX: usize = 16 * 1024;
/// Values in one front matter.
pub const FRONT_MATTER_NODES_MAX: usize = 2_000;
/// Levels of one front matter; the documented ones have 5.
pub const FRONT_MATTER_DEPTH_MAX: usize = 16;
/// A whole SKILL.md on the disk: the largest content and the largest front matter.
pub const SKILL_FILE_BYTES_MAX: usize = SKILL_BYTES_MAX + FRONT_MATTER_BYTES_MAX;
/// An archive of a skill: text, mostly; the largest public ones have some hundred kilobytes.
pub const SKILL_ARCHIVE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// What it may unpack to; all of it is in memory at once.
pub const SKILL_UNPACKED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How many times its own size that may be: text has a tenth of that, a bomb ten times as much.
pub const SKILL_UNPACKED_RATIO_MAX: usize = 100;
/// Where the ratio says nothing yet: a tar of one short file has 10 KiB of zeros.
pub const SKILL_UNPACKED_SMALL_BYTES: usize = 64 * 1024;
/// Files and directories that an archive of a skill may hold.
pub const SKILL_ENTRIES_MAX: usize = 500;
/// The name of one of them with its directories, in bytes: with the home in front of it, it is still a path.
pub const SKILL_ENTRY_NAME_BYTES_MAX: usize = 512;
/// Directories within directories.
pub const SKILL_ENTRY_DEPTH_MAX: usize = 16;
/// The file that keeps which skills were switched on or off.
pub const SKILL_CHOICES_BYTES_MAX: u64 = 256 * 1024;
/// Skills of one source (the owner's own, installed ones).
pub const SKILLS_MAX: usize = 500;
/// A file of somebody's own page that is read whole before it is sent, so that its digest tells whether it has changed; larger ones
/// are sent piece by piece.
pub const SITE_FILE_WHOLE_BYTES_MAX: usize = 1024 * 1024;
/// An archive of a page: builds have some hundred kilobytes to a few megabytes.
pub const SITE_ARCHIVE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Compressed files of the page that are kept in memory; ours are a third of it, an own build may have some more.
pub const SITE_PACKED_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Events of the bus kept for readers that come back.
pub const EVENTS_KEPT_MAX: usize = 1024;
/// Bytes of these, so that an idle process stays small.
pub const EVENTS_KEPT_BYTES_MAX: usize = 256 * 1024;
/// Ended messages that the gateway remembers, in the whole process: a cancel of one of them is 409, of an older one 404.
pub const ENDED_MESSAGES_KEPT: usize = 4096;
/// Sessions that one WebSocket follows at once; a further message or resume is refused until one of them is quiet.
pub const WS_SESSIONS_MAX: usize = 16;
/// Frames of a server-sent stream that are joined into one write, in bytes: a reader that is behind catches up in few writes.
pub const SSE_BATCH_BYTES_MAX: usize = 16 * 1024;

const _: () = assert!(SEARCH_CHARS_MAX * 12 < TARGET_BYTES_MAX);
const _: () = assert!(CONTENT_BYTES_MAX * 6 < CHAT_BODY_BYTES_MAX);
const _: () = assert!(SKILL_FILE_BYTES_MAX < SKILL_ARCHIVE_BYTES_MAX && SKILL_UNPACKED_SMALL_BYTES < SKILL_UNPACKED_BYTES_MAX);
const _: () = assert!(MEMORY_BYTES_MAX * 6 < MEMORY_BODY_BYTES_MAX);
const _: () = assert!(PERSONA_PROMPT_BYTES_MAX * 6 < JSON_BODY_BYTES_MAX && SPACE_CONTEXT_BYTES_MAX * 6 < JSON_BODY_BYTES_MAX);
const _: () = assert!(RESULT_INLINE_BYTES_MAX < RESULT_BYTES_MAX);
const _: () = assert!(ANSWER_BYTES_MAX * 6 < LOG_LINE_BYTES_MAX); // six: the longest JSON escape of a byte
const _: () = assert!(ANSWER_BYTES_MAX * 6 < MODEL_EVENT_BYTES_MAX);
const _: () = assert!(COMPLETION_BODY_BYTES_MAX + 64 * 1024 < LOG_LINE_BYTES_MAX); // a whole body may be one message

/// Open connections in all (`gateway.max_connections`).
pub const CONNECTIONS_MAX: usize = 4096;
/// Connections that have not authenticated: what a stranger can hold.
pub const STRANGERS_MAX: usize = 512;
/// Strangers of one peer; one machine cannot take every place of the line above.
pub const STRANGERS_PER_PEER_MAX: usize = 64;
/// New connections that nobody has looked at yet; more wait with the kernel. What is admitted faster than it is served would stand
/// before every client's next request.
pub const CONNECTIONS_UNSEEN_MAX: usize = 16;
/// So many requests of a stranger's connection are answered at once while it is crowded (a page with its parts), …
pub const STRANGER_REQUESTS_AT_ONCE: u64 = 16;
/// … each further one at the earliest so many milliseconds after the last: with every place taken, that is 5,120 requests a second.
pub const STRANGER_REQUEST_EVERY_MS: u64 = 100;
/// While it is crowded so many strangers' tasks run in one go, before whoever else is ready: some 50 µs each.
pub const STRANGERS_A_TURN: usize = 4;
/// It is crowded when one in so many of the strangers' places is taken: more than one peer may take.
pub const STRANGERS_CROWDED_SHARE: usize = 4;
/// Descriptors that connections leave to files, models and the runtime.
pub const DESCRIPTORS_KEPT: usize = 128;
/// Wrong credentials of one peer within a minute; from the next one on the answer is 429.
pub const WRONG_CREDENTIALS_PER_MINUTE: u32 = 10;
/// Peers and keys whose rates are remembered; the least recently seen goes first.
pub const RATE_ENTRIES_MAX: usize = 4096;
/// Logged-in browsers of the process.
pub const LOGINS_MAX: usize = 4096;
/// The file that keeps them; each takes some 170 bytes.
pub const LOGINS_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Of one key; the oldest goes first.
pub const LOGINS_PER_KEY_MAX: usize = 64;
/// Open one-time tickets of the process; each lives 30 s.
pub const TICKETS_MAX: usize = 4096;
/// Lines of the access log that wait for the next write, in bytes.
pub const ACCESS_LOG_BATCH_BYTES: usize = 8 * 1024;
