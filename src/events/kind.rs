//! The kinds of API A4.

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),* $(,)?) => {
        /// What happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $variant),* }

        impl Kind {
            /// Every kind, in the order of the contract.
            pub const ALL: &[Kind] = &[$(Kind::$variant),*];

            /// The word that stands in `type`.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$variant => $name),* }
            }
        }
    };
}

kinds! {
    /// A run was made for a message.
    AgentCreated = "agent_created",
    /// It runs (again).
    AgentStarted = "agent_started",
    /// It is over without a failure.
    AgentStopped = "agent_stopped",
    /// It failed.
    AgentFailed = "agent_failed",
    /// A user message was accepted.
    MessageReceived = "message_received",
    /// A specification was written.
    SeedCreated = "seed_created",
    /// A result was judged.
    EvaluationComplete = "evaluation_complete",
    /// A phase begins.
    PhaseStarted = "phase_started",
    /// A phase is over.
    PhaseCompleted = "phase_completed",
    /// A run has an answer (its size, not its text).
    AgentOutput = "agent_output",
    /// A person is asked.
    ApprovalRequested = "approval_requested",
    /// A person, time or a newer message has decided.
    ApprovalResolved = "approval_resolved",
    /// Something was remembered.
    MemoryStored = "memory_stored",
    /// Something was recalled.
    MemoryRecalled = "memory_recalled",
    /// Several agents work together.
    AgentGroupCreated = "agent_group_created",
    /// One of them is done.
    AgentGroupMemberCompleted = "agent_group_member_completed",
    /// A space was made.
    SpaceCreated = "space_created",
    /// It is the current one.
    SpaceActivated = "space_activated",
    /// It was put away.
    SpaceArchived = "space_archived",
    /// Spaces became one.
    SpacesMerged = "spaces_merged",
    /// A specification is repaired.
    EvolutionStarted = "evolution_started",
    /// No further repair is tried.
    EvolutionMaxReached = "evolution_max_reached",
}
