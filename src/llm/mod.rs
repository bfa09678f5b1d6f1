//! Floor 2: models.

pub mod engine;
pub mod error;
pub mod request;

pub use engine::{Call, Engine, Settings};
pub use error::{Kind, LlmError};
