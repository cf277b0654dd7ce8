//! One connection's session: its DataFusion context, settings, transaction, prepared statements and portals.

mod client_session;
pub(crate) mod commands;
mod concealed_paths;
mod constraints;
pub(crate) mod copy_in;
mod date_style;
pub(crate) mod ddl;
mod execution;
mod explain;
mod grants;
pub(crate) mod notifications;
mod objects;
mod on_commit;
mod plan_cache;
mod planner;
mod preparation;
pub(crate) mod progress;
pub(crate) mod result_stream;
pub(crate) mod returning;
mod scroll;
mod sequences;
mod server_state;
mod set_show;
pub(crate) mod settings;
mod statement;
mod temporary_tables;
mod time_zone;
pub(crate) mod transaction;
mod two_phase;
mod user_limits;

pub(crate) use self::client_session::{Session, in_failed_transaction};
pub(crate) use self::concealed_paths::without_locations;
pub(crate) use self::server_state::ServerState;
pub(crate) use self::statement::{CommandTag, Outcome, Portal, PreparedStatement};
