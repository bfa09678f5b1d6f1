//! The integration tests: one binary. Each name is a statement about the product.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test ends when something is not as it says, and reports to whoever runs it"
)]

// Parts of the support are used by some tests only.
mod access;
mod agents;
mod audit;
mod backup;
mod budgets;
mod bytes;
mod canaries;
mod chat;
mod cli;
mod config;
mod config_live;
mod crash;
mod cron;
mod disk;
mod engine;
mod events;
mod foreign;
mod groups;
mod keys;
mod kills;
mod landlock;
mod login;
mod mcp;
mod mcp_servers;
mod memory;
mod metrics;
mod model_faults;
mod openai;
mod openai_fields;
mod openai_history;
mod openai_models;
mod owners;
mod panics;
mod personas;
mod phases;
mod readers;
mod real_model;
mod revoked;
mod routes;
mod seeds;
mod session_rooms;
mod sessions;
mod site;
mod skills;
mod socket;
mod spaces;
mod strangers;
mod supervised;
#[allow(dead_code, reason = "the support is a small library; what one test needs another does not")]
mod support;
mod tidy;
mod units;
mod workspace;
