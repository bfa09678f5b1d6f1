//! Floor 5: submit, lanes, permits, cancel, drain.
