//! `GET /api/chat/stream`: the WebSocket (API A3 and B).
//!
//! One task for each socket. It pulls from the logs of the sessions that it follows, one record at a time, and only while the
//! client takes what it sends: a slow reader costs no memory, it falls behind and gets the terminal record instead of pieces.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::chat::{self, Said};
use crate::api::socket_follows::Follows;
use crate::api::{App, Call, socket_frames};
use crate::base::ids::{MessageId, Seq, SessionId};
use crate::base::limits::{JSON_DEPTH_MAX, WS_SESSIONS_MAX};
use crate::base::log;
use crate::http::Response;
use crate::http::error::{ErrorStatus, HttpError};
use crate::http::ws::{self, Close, Gone, Message, Options, Socket};
use crate::middleware::auth::{self, Caller, End, Scope};
use crate::middleware::rate::Pace;
use crate::wire::json;

/// The label of users that come in here (API A3).
const USER: &str = "web-user";

/// `GET /api/chat/stream`.
pub(crate) async fn stream(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let caller = call.caller()?.clone();
    let Call { headers, upgrade, ends, pace, .. } = call;
    ws::upgrade(&headers, upgrade, Options::default(), move |mut socket| async move {
        let _present = app.metrics.sockets.enter();
        let mut ending = ends.watch();
        let mut talk = Talk { app, caller, pace, follows: Follows::default() };
        let close = loop {
            let turn = tokio::select! {
                end = ending.ended() => break Some(match end {
                    End::Revoked => (Close::Policy, "the key was revoked or ran out"),
                    End::Shutdown => (Close::GoingAway, "the server is shutting down"),
                }),
                message = socket.recv() => match message {
                    Ok(message) => talk.hear(&mut socket, message).await,
                    Err(Gone) => Err(Gone),
                },
                (at, step) = talk.follows.next() => talk.forward(&mut socket, at, step).await,
            };
            if turn.is_err() {
                break None;
            }
        };
        match close {
            Some((code, reason)) => socket.close(code, reason).await,
            None => socket.end().await,
        }
    })
}

/// What a client may send. The fields of a message are as in `POST /api/chat`.
#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    name: String,
}

#[derive(Deserialize)]
struct Resume {
    session_id: SessionId,
    #[serde(default)]
    after: Seq,
}

#[derive(Deserialize)]
struct Cancel {
    id: MessageId,
}

/// One socket's side of the conversation.
struct Talk {
    app: Arc<App>,
    /// Who opened the socket.
    caller: Caller,
    /// What makes the agent work or the disk read counts as a request does; stopping and living on do not.
    pace: Pace,
    follows: Follows,
}

impl Talk {
    /// Acts on a message of the client. What is wrong with it is said; the socket stays open.
    async fn hear(&mut self, socket: &mut Socket, message: Message) -> Result<(), Gone> {
        let Message::Text(text) = message else {
            return socket.send(socket_frames::error("bad_request", "binary messages are not understood; send JSON as text", &[])).await;
        };
        match self.act(socket, text.as_bytes()).await {
            Ok(sent) => sent,
            Err(error) => {
                if let Some(private) = &error.private {
                    log::error("socket", format_args!("{private}"));
                }
                socket.send(socket_frames::error(error.code, &error.public, &[])).await
            }
        }
    }

    async fn act(&mut self, socket: &mut Socket, text: &[u8]) -> Result<Result<(), Gone>, HttpError> {
        let kind: Kind = json::parse(text, JSON_DEPTH_MAX)?;
        if matches!(kind.name.as_str(), "message" | "resume") {
            self.pace.take()?;
        }
        match kind.name.as_str() {
            "message" => self.say(socket, json::parse(text, JSON_DEPTH_MAX)?).await,
            "resume" => {
                // It shows what `GET /api/sessions/{id}/events` shows.
                auth::require(&self.caller, Scope::Read)?;
                self.resume(json::parse(text, JSON_DEPTH_MAX)?).await
            }
            "cancel" => {
                let cancel: Cancel = json::parse(text, JSON_DEPTH_MAX)?;
                // What comes of it is in the log; a refusal names the message.
                match self.app.gateway.stop(self.caller.owner(), cancel.id).await.map_err(HttpError::from) {
                    Ok(_) => Ok(Ok(())),
                    Err(error) => Ok(socket.send(socket_frames::error(error.code, &error.public, &[("id", json!(cancel.id))])).await),
                }
            }
            "ping" => Ok(socket.send(json!({"type": "pong"}).to_string()).await),
            _ => Err(HttpError::bad_request("unknown type; known are message, resume, cancel, ping").code("unknown_type")),
        }
    }

    async fn say(&mut self, socket: &mut Socket, said: Said) -> Result<Result<(), Gone>, HttpError> {
        let incoming = said.check(&self.caller, "ws", USER.to_owned())?;
        // Before it is accepted: afterwards it could not be answered.
        self.place(incoming.session_id)?;
        let submitted = chat::submit(&self.app, incoming).await?;
        let space = submitted.session.about().space_id;
        let accepted: Value = json!({
            "type": "accepted",
            "id": submitted.id,
            "session_id": submitted.session.id(),
            "space_id": space,
            "seq": submitted.seq,
        });
        let sent = socket.send(accepted.to_string()).await;
        self.follows.message(submitted, space);
        Ok(sent)
    }

    async fn resume(&mut self, resume: Resume) -> Result<Result<(), Gone>, HttpError> {
        let session = self.app.sessions.load(resume.session_id, self.caller.owner()).await?;
        // One that is followed already has a place; nothing may go wrong once that is left.
        if !self.follows.has(resume.session_id) {
            self.place(None)?;
        }
        self.follows.leave(resume.session_id);
        self.follows.session(&session, resume.after);
        Ok(Ok(()))
    }

    /// Sends what a log says next.
    async fn forward(&mut self, socket: &mut Socket, at: usize, step: socket_frames::Told) -> Result<(), Gone> {
        for frame in self.follows.frames(at, step) {
            socket.send(frame).await?;
        }
        Ok(())
    }

    /// Room for one more. A session that is followed already mostly needs none; a retry in it is read by a tail of its own.
    fn place(&mut self, session: Option<SessionId>) -> Result<(), HttpError> {
        if self.follows.len() >= WS_SESSIONS_MAX {
            self.follows.make_room();
        }
        let known = session.is_some_and(|id| self.follows.has(id));
        if self.follows.len() < if known { 2 * WS_SESSIONS_MAX } else { WS_SESSIONS_MAX } {
            return Ok(());
        }
        let text = format!("this socket follows {WS_SESSIONS_MAX} sessions; wait for an answer, or open another one");
        Err(HttpError::new(ErrorStatus::TooManyRequests, "too_many_sessions", text))
    }
}
