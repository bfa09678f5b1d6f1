//! Floor 4: the five phases, tools, and the budget of a run.
