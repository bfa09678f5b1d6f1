//! What a run begins with: the message, the conversation before it, and what memory has to say.

use crate::base::limits::ATTACHMENTS_MAX;
use crate::base::log;
use crate::base::text::{beginning, fair_length};
use crate::events::Kind;
use crate::llm::request::bytes_of;
use crate::orchestrator::history::Exchange;
use crate::orchestrator::interview::{self, ROUNDS_MAX};
use crate::orchestrator::run::{Next, Run, blocking};
use crate::orchestrator::state::Input;
use crate::orchestrator::step::UNCLEAR;
use crate::orchestrator::tools::memory_line;
use crate::rooms::memory::Entry;
use crate::store::StoreError;
use crate::store::record::{Body, Phase, PhaseState, Record};
use crate::store::turns::Turn;

/// Memories that fit the message have this part of the model's context at most, and the pinned ones as much again.
const RECALLED_PART: usize = 12;
/// A line that is cut to less than this, in bytes, says nothing: rather fewer lines.
const LINE_BYTES_MIN: usize = 64;
/// Turns without an answer, one after the other, that are looked through for what their tools may have done.
const CUT_TURNS_MAX: usize = 8;
/// Ends a memory of which there is more.
const MORE: &str = " […]";

impl Run<'_> {
    /// Everything that the first model call stands on.
    pub(crate) async fn begin(&mut self) -> Result<Next, StoreError> {
        let message = &self.job.message;
        self.state.message = message.content.clone();
        if !message.attachments.is_empty() {
            let paths: Vec<_> = message.attachments.iter().take(ATTACHMENTS_MAX).map(String::as_str).collect();
            self.state.aside.push_str(&format!("Attached files, to be read with read_file: {}\n", paths.join(", ")));
        }
        let turns = self.job.session.recent_turns(self.history_bytes()).await?;
        self.find_open_interview(&turns).await?;
        self.tell_history(turns).await?;
        self.recall().await;
        self.read_own().await;
        self.read_backdrop().await;
        Ok(Next::Input(Input::Begin))
    }

    /// A resumed run needs the conversation too; the rest is in its state.
    pub(crate) async fn read_history(&mut self) -> Result<(), StoreError> {
        let turns = self.job.session.recent_turns(self.history_bytes()).await?;
        self.tell_history(turns).await?;
        self.read_own().await;
        self.read_backdrop().await;
        Ok(())
    }

    /// The conversation as the model reads it, with what is not known of it.
    async fn tell_history(&mut self, turns: Vec<Turn>) -> Result<(), StoreError> {
        let unknown = self.unknown_outcomes(&turns).await?;
        self.history = turns.into_iter().map(Exchange::from).collect();
        for (note, exchange) in unknown.iter().zip(self.history.iter_mut().rev()) {
            exchange.assistant.push_str(note);
        }
        Ok(())
    }

    /// Where the turns before this one ended with our questions, this message answers them: the original request stays.
    async fn find_open_interview(&mut self, turns: &[Turn]) -> Result<(), StoreError> {
        let mut rounds = Vec::new();
        let mut original = None;
        let mut answer = self.state.message.clone();
        for turn in turns.iter().rev().take(ROUNDS_MAX as usize) {
            if turn.kind != "done" || turn.ending.phase != Phase::Interview {
                break;
            }
            // An earlier version said it only in the records of the run.
            if !turn.ending.asks && !asked(&self.job.session.records_of(turn.message_id).await?) {
                break;
            }
            rounds.push((turn.ending.text.clone(), std::mem::replace(&mut answer, turn.message.content.clone())));
            original = Some(turn.message.content.clone());
        }
        rounds.reverse();
        self.state.rounds = u32::try_from(rounds.len()).unwrap_or(ROUNDS_MAX);
        self.state.request = match original {
            Some(original) => interview::joined(&original, &rounds),
            None => self.state.message.clone(),
        };
        Ok(())
    }

    /// A risky tool that was started and has no result is told to the model: what to add to each of the last turns, newest first.
    /// Whichever way such a turn was cut (a cancel, the deadline, the process's end), nobody knows what the tool did; and one that was
    /// cut behind it, before the model heard of that, hides nothing.
    async fn unknown_outcomes(&self, turns: &[Turn]) -> Result<Vec<String>, StoreError> {
        let mut notes = Vec::new();
        for turn in turns.iter().rev().take_while(|turn| turn.kind != "done").take(CUT_TURNS_MAX) {
            let records = self.job.session.records_of(turn.message_id).await?;
            let open = records.iter().find_map(|record| match &record.body {
                Body::ToolCall { call_id, name, risky: true, .. } if !has_result(&records, call_id) => Some(name),
                _ => None,
            });
            notes.push(
                open.map_or_else(String::new, |name| {
                    format!("\n[{name} was started and its outcome is unknown; look before doing it again]")
                }),
            );
        }
        Ok(notes)
    }

    /// The session's instructions, its persona and its space, as they are now. A persona or space that was deleted is none.
    async fn read_own(&mut self) {
        let about = self.job.session.about();
        self.own.instructions = about.instructions.unwrap_or_default();
        let space = self.job.message.space_id.or(about.space_id);
        if about.persona_id.is_none() && space.is_none() {
            return;
        }
        let (personas, spaces, owner) = (self.parts.personas.clone(), self.parts.spaces.clone(), self.job.owner);
        let read = blocking(move || {
            let persona = about.persona_id.and_then(|id| personas.find(owner, id).ok());
            let space = space.and_then(|id| spaces.resolve(owner, id).ok());
            Ok((persona.map(|p| p.prompt).unwrap_or_default(), space.map(|s| s.context).unwrap_or_default()))
        });
        match read.await {
            Ok((persona, context)) => (self.own.persona, self.own.context) = (persona, context),
            Err(e) => log::warn("run", format_args!("persona and space could not be read: {e}")),
        }
    }

    async fn recall(&mut self) {
        if !self.parts.memory.settings().enabled {
            return;
        }
        let (room, owner) = (self.parts.memory.clone(), self.job.owner);
        let limit = room.settings().max_recall;
        let pinned = {
            let room = room.clone();
            blocking(move || room.pinned(owner).map_err(|e| e.to_string())).await
        };
        let found = room.recall(owner, &self.state.request, limit).await.map_err(|e| e.to_string());
        // The answer depends on neither.
        let or_none = |e: String| log::warn("run", format_args!("nothing could be recalled: {e}"));
        let (pinned, hits) = (pinned.map_err(or_none).unwrap_or_default(), found.map_err(or_none).unwrap_or_default());
        let best = hits.first().map_or(0.0, |hit| hit.score);
        let fitting = hits.iter().filter(|hit| hit.score * 2.0 >= best && !hit.entry.pinned).map(|hit| &hit.entry);
        let share = bytes_of(self.context_tokens()) / RECALLED_PART;
        let mut recalled = lines(pinned.iter(), share);
        recalled.push_str(&lines(fitting, share));
        if !recalled.is_empty() {
            self.state.aside.push_str("What you remember that may matter here:\n");
            self.state.aside.push_str(&recalled);
            self.publish(Kind::MemoryRecalled, []);
        }
    }
}

/// A line for each; where there is not room for all, the longest are cut.
fn lines<'a>(entries: impl Iterator<Item = &'a Entry>, room: usize) -> String {
    let line = |entry: &Entry| memory_line(&entry.content, entry.category, entry.created_at);
    let all: Vec<String> = entries.take((room / LINE_BYTES_MIN).max(1)).map(line).collect();
    let length = fair_length(all.iter().map(|line| line.len() + 1), room);
    let mut lines = String::new();
    for line in all {
        if line.len() < length {
            lines.push_str(&line);
        } else {
            lines.push_str(beginning(&line, length.saturating_sub(MORE.len() + 1)));
            lines.push_str(MORE);
        }
        lines.push('\n');
    }
    lines
}

/// The turn ended with our questions.
fn asked(records: &[Record]) -> bool {
    records.iter().any(|record| {
        matches!(&record.body, Body::Phase { phase: Phase::Interview, state: PhaseState::Ended, verdict: Some(verdict), .. } if verdict == UNCLEAR)
    })
}

fn has_result(records: &[Record], call: &str) -> bool {
    records.iter().any(|record| matches!(&record.body, Body::ToolResult { call_id, .. } if call_id == call))
}
