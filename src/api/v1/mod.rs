//! `/v1`: an endpoint that OpenAI's clients understand. Model `oxios` is the agent, any other one the plain model behind it.

mod agent;
mod answer;
mod asked;
pub(crate) mod completions;
mod conversation;
pub(crate) mod error;
pub(crate) mod models;
mod plain;

/// What these routes take and answer.
#[cfg(test)]
pub(super) fn shapes(all: &mut super::shapes::Shapes) {
    completions::shapes::add(all);
    answer::shapes(all);
    models::shapes(all);
}
