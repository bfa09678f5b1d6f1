//! Floor 2: models.

pub mod anthropic;
mod bounded;
mod call;
mod counted;
pub mod embeddings;
pub mod engine;
pub mod error;
mod form;
mod history;
mod offers;
pub mod offline;
pub mod openai;
mod plain;
mod probe;
pub mod request;

pub use call::Call;
pub use counted::CountedCall;
pub use engine::{Engine, Settings};
pub use error::{Kind, LlmError};
pub use plain::Plain;
pub use probe::Probe;
