//! LISTEN, NOTIFY and UNLISTEN: messages from session to session, which leave when their transaction commits.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion_postgres::pgwire::messages::PgWireBackendMessage;
use datafusion_postgres::pgwire::messages::response::NotificationResponse;
use tokio::sync::Notify;

use crate::wire::error_response::SqlError;

/// Greatest number of bytes of a channel's name, and of a payload.
const CHANNEL: usize = 63;
const PAYLOAD: usize = 7999;

/// Bytes of messages that a session may have waiting for it, or waiting for its commit.
const MOST: usize = 16 << 20;

/// Channels that a session may listen to.
const CHANNELS: usize = 10_000;

/// Bytes of a message without its texts, about.
const MESSAGE: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Message {
    channel: Arc<str>,
    payload: Arc<str>,
}

impl Message {
    fn size(&self) -> usize {
        MESSAGE + self.channel.len() + self.payload.len()
    }
}

/// Task of a transaction at its commit.
#[derive(Debug, Clone)]
enum Action {
    Listen(String),
    Unlisten(String),
    UnlistenAll,
    Notify(Message),
}

impl Action {
    fn size(&self) -> usize {
        match self {
            Self::Notify(message) => message.size(),
            Self::Listen(channel) | Self::Unlisten(channel) => MESSAGE + channel.len(),
            Self::UnlistenAll => MESSAGE,
        }
    }
}

/// The sessions of a server that listen, by their process numbers.
#[derive(Debug, Default)]
pub(crate) struct Listeners(Mutex<HashMap<i32, Listener>>);

#[derive(Debug)]
struct Listener {
    channels: BTreeSet<String>,
    /// Messages that the client has not got yet, with the numbers of their senders.
    waiting: VecDeque<(i32, Message)>,
    bytes: usize,
    arrived: Arc<Notify>,
}

impl Listeners {
    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Listener>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Actions of a transaction that is not committed. Functions of the session's statements add to them.
#[derive(Debug, Clone)]
pub(crate) struct PendingActions {
    actions: Arc<Mutex<Actions>>,
    listeners: Arc<Listeners>,
}

#[derive(Debug, Default)]
struct Actions {
    all: Vec<Action>,
    bytes: usize,
}

impl PendingActions {
    fn lock(&self) -> MutexGuard<'_, Actions> {
        self.actions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message.
    ///
    /// # Errors
    /// 22023 for a name or payload that is too long, 54000 if too many messages wait for the commit, or for a session.
    pub(crate) fn notify(&self, channel: &str, payload: &str) -> Result<(), SqlError> {
        let refused = |message: &str| Err(SqlError::error("22023", message));
        match (channel.len(), payload.len()) {
            (0, _) => return refused("channel name cannot be empty"),
            (length, _) if length > CHANNEL => return refused("channel name too long"),
            (_, length) if length > PAYLOAD => return refused("payload string too long"),
            _ => {}
        }
        if self.listeners.lock().values().any(|listener| listener.bytes > MOST) {
            return Err(full());
        }
        self.push(Action::Notify(Message { channel: channel.into(), payload: payload.into() }))
    }

    fn push(&self, action: Action) -> Result<(), SqlError> {
        let mut actions = self.lock();
        if actions.bytes > MOST {
            return Err(full());
        }
        actions.bytes += action.size();
        actions.all.push(action);
        Ok(())
    }
}

fn full() -> SqlError {
    SqlError::error("54000", "too many notifications in the NOTIFY queue")
}

/// The notifications of one session.
#[derive(Debug)]
pub(crate) struct Notifications {
    session: i32,
    listeners: Arc<Listeners>,
    pub(crate) pending: PendingActions,
    arrived: Arc<Notify>,
}

impl Notifications {
    pub(crate) fn new(listeners: &Arc<Listeners>, session: i32) -> Self {
        let listeners = Arc::clone(listeners);
        let pending = PendingActions { actions: Arc::default(), listeners: Arc::clone(&listeners) };
        Self { session, listeners, pending, arrived: Arc::default() }
    }

    /// Listens to a channel from the commit on.
    ///
    /// # Errors
    /// 54000 if the session listens to too many channels.
    pub(crate) fn listen(&self, channel: &str) -> Result<(), SqlError> {
        if self.listeners.lock().get(&self.session).is_some_and(|own| own.channels.len() >= CHANNELS) {
            return Err(SqlError::error("54000", format!("a session may listen to {CHANNELS} channels at most")));
        }
        self.pending.push(Action::Listen(truncated(channel)))
    }

    /// Listens to a channel no more from the commit on.
    ///
    /// # Errors
    /// 54000 if too many actions wait for the commit.
    pub(crate) fn unlisten(&self, channel: &str) -> Result<(), SqlError> {
        self.pending.push(Action::Unlisten(truncated(channel)))
    }

    /// Listens to no channel from the commit on.
    ///
    /// # Errors
    /// As [`Notifications::unlisten`].
    pub(crate) fn unlisten_all(&self) -> Result<(), SqlError> {
        self.pending.push(Action::UnlistenAll)
    }

    /// Adds a message by the name of its channel.
    ///
    /// # Errors
    /// As [`PendingActions::notify`].
    pub(crate) fn notify(&self, channel: &str, payload: &str) -> Result<(), SqlError> {
        self.pending.notify(&truncated(channel), payload)
    }

    /// Returns the number of actions so far.
    pub(crate) fn len(&self) -> usize {
        self.pending.lock().all.len()
    }

    /// Forgets the actions after a number of them.
    pub(crate) fn truncate(&self, count: usize) {
        let mut actions = self.pending.lock();
        actions.all.truncate(count);
        actions.bytes = actions.all.iter().map(Action::size).sum();
    }

    /// Does what the transaction asked for.
    pub(crate) fn commit(&self) {
        let actions = std::mem::take(&mut *self.pending.lock()).all;
        if actions.is_empty() {
            return;
        }
        let mut sent = HashSet::new();
        let mut messages = Vec::new();
        let mut listeners = self.listeners.lock();
        for action in actions {
            match action {
                Action::Listen(channel) => {
                    let new = || Listener {
                        channels: BTreeSet::new(),
                        waiting: VecDeque::new(),
                        bytes: 0,
                        arrived: Arc::clone(&self.arrived),
                    };
                    listeners.entry(self.session).or_insert_with(new).channels.insert(channel);
                }
                Action::Unlisten(channel) => {
                    if let Some(own) = listeners.get_mut(&self.session) {
                        own.channels.remove(&channel);
                    }
                }
                Action::UnlistenAll => {
                    if let Some(own) = listeners.get_mut(&self.session) {
                        own.channels.clear();
                    }
                }
                Action::Notify(message) => {
                    if sent.insert(message.clone()) {
                        messages.push(message);
                    }
                }
            }
        }
        for listener in listeners.values_mut() {
            let before = listener.waiting.len();
            for message in messages.iter().filter(|message| listener.channels.contains(&*message.channel)) {
                listener.bytes += message.size();
                listener.waiting.push_back((self.session, message.clone()));
            }
            if listener.waiting.len() > before {
                listener.arrived.notify_one();
            }
        }
    }

    /// Forgets what the transaction asked for.
    pub(crate) fn roll_back(&self) {
        *self.pending.lock() = Actions::default();
    }

    /// Returns the messages that have arrived, for the client.
    pub(crate) fn take(&self) -> Vec<PgWireBackendMessage> {
        let mut listeners = self.listeners.lock();
        let Some(own) = listeners.get_mut(&self.session) else { return Vec::new() };
        own.bytes = 0;
        let messages = own.waiting.drain(..).map(|(sender, message)| {
            let response =
                NotificationResponse::new(sender, message.channel.as_ref().into(), message.payload.as_ref().into());
            PgWireBackendMessage::NotificationResponse(response)
        });
        messages.collect()
    }

    /// Returns the channels that the session listens to, for its functions.
    pub(crate) fn channels(&self) -> ListeningChannels {
        ListeningChannels { session: self.session, listeners: Arc::clone(&self.listeners) }
    }

    /// Completes when messages have arrived.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }
}

impl Drop for Notifications {
    fn drop(&mut self) {
        self.listeners.lock().remove(&self.session);
    }
}

/// The channels that a session listens to.
#[derive(Debug, Clone)]
pub(crate) struct ListeningChannels {
    session: i32,
    listeners: Arc<Listeners>,
}

impl ListeningChannels {
    pub(crate) fn names(&self) -> Vec<String> {
        let listeners = self.listeners.lock();
        listeners.get(&self.session).map(|own| own.channels.iter().cloned().collect()).unwrap_or_default()
    }
}

/// Cuts a name to the length that names have at most.
fn truncated(name: &str) -> String {
    name[..name.floor_char_boundary(CHANNEL)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(session: &Notifications) -> Vec<(i32, String, String)> {
        let of = |message| match message {
            PgWireBackendMessage::NotificationResponse(found) => (found.pid, found.channel, found.payload),
            other => panic!("{other:?}"),
        };
        session.take().into_iter().map(of).collect()
    }

    #[test]
    fn messages_leave_with_their_transaction() {
        let listeners = Arc::default();
        let (one, two) = (Notifications::new(&listeners, 1), Notifications::new(&listeners, 2));
        one.listen("a").unwrap();
        two.notify("a", "lost").unwrap();
        two.commit();
        one.notify("a", "own").unwrap();
        one.commit();
        assert_eq!(received(&one), [(1, "a".into(), "own".into())]);
        two.notify("a", "1").unwrap();
        two.notify("a", "2").unwrap();
        two.notify("a", "1").unwrap();
        let count = two.len();
        two.notify("a", "undone").unwrap();
        two.truncate(count);
        assert!(received(&one).is_empty());
        two.commit();
        assert_eq!(received(&one), [(2, "a".into(), "1".into()), (2, "a".into(), "2".into())]);
        two.notify("a", "undone").unwrap();
        two.roll_back();
        two.commit();
        assert_eq!(one.channels().names(), ["a"]);
        one.unlisten_all().unwrap();
        one.commit();
        assert!(received(&one).is_empty() && one.channels().names().is_empty());
        drop(one);
        assert!(listeners.lock().is_empty());
    }

    #[test]
    fn messages_have_limits() {
        let listeners = Arc::default();
        let one = Notifications::new(&listeners, 1);
        for (channel, payload) in [("", "x"), (&*"x".repeat(64), "x"), ("x", &*"x".repeat(8000))] {
            assert_eq!(one.pending.notify(channel, payload).unwrap_err().sqlstate, "22023");
        }
        let long = "x".repeat(PAYLOAD - 5);
        let refused = (0..10_000).find_map(|number| one.notify("x", &format!("{number:05}{long}")).err());
        assert_eq!(refused.unwrap().sqlstate, "54000");
        assert_eq!(truncated(&"é".repeat(40)), "é".repeat(31));
    }
}
