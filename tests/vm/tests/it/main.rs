//! What a workflow sees of a job in a VM that boots: each way in which the agent gets there, and each in which it ends.

mod boots;
mod confined;
mod ends;
mod failures;
mod handover;
mod unreachable;
mod user_data;
