//! Floor 2: models.

pub mod anthropic;
pub mod engine;
pub mod error;
mod history;
pub mod openai;
pub mod request;

pub use engine::{Call, Engine, Settings};
pub use error::{Kind, LlmError};
