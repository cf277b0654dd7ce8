//! Users, their authentication, and the permissions of plans that they run.
//!
//! Front ends share this: [`Users`] is the password file, [`Exchange`] a SCRAM-SHA-256 conversation, bound to its
//! channel or not, [`check`] decides on a logical plan, because statements hide in statements.

mod concealed;
mod error;
mod permissions;
mod scram;
mod settings;
mod users;

pub use concealed::conceal;
pub use error::Error;
pub use permissions::check;
pub use scram::{ChannelBinding, Exchange, Verifier};
pub use settings::check_setting;
pub use users::{Role, Users};
