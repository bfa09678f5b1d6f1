//! Floor 3: workspace, memory, skills, approvals, seeds; independent of each other.

pub mod workspace;
