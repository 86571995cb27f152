//! The idle connections that several shops share. A shop gets the one that suits it best.
//!
//! deadpool lends the connection that was returned last, whichever shop it served. So the connections of a
//! [`ServerPool`](super::pool::ServerPool) are kept here while they are idle, and deadpool, for which they are still in
//! use, opens them and queues the callers. A caller never waits for a particular connection: it gets the best of those
//! that are idle, and if there is none, deadpool gives it a new one or the next one that is returned.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

/// How well a connection suits a shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It has not served the shop, so the server process behind it may not have read the catalog of its schema.
    New,
    /// It has served the shop, and another one since.
    Former,
    /// It served the shop last, so it need not change its schema.
    Current,
}

/// The idle connections of a pool.
pub struct Idle<C> {
    /// The maximum number of connections of the pool.
    most: usize,
    state: Mutex<State<C>>,
}

struct State<C> {
    /// The connections, the one that was returned last at the end.
    connections: VecDeque<C>,
    /// How many callers have a connection or look for one.
    users: usize,
    closed: bool,
}

impl<C> fmt::Debug for Idle<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idle").field("connections", &self.len()).finish_non_exhaustive()
    }
}

impl<C> Idle<C> {
    /// Returns an empty list for a pool of at most `most` connections.
    pub fn new(most: usize) -> Arc<Self> {
        let state = State { connections: VecDeque::new(), users: 0, closed: false };
        Arc::new(Self { most, state: Mutex::new(state) })
    }

    /// Counts a caller that looks for a connection, until the result is dropped.
    pub fn user(self: &Arc<Self>) -> User<C> {
        self.state.lock().users += 1;
        User { idle: self.clone() }
    }

    /// Returns how many connections are idle.
    pub fn len(&self) -> usize {
        self.state.lock().connections.len()
    }

    /// Gives all connections to the pool, and each later one when it is returned.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let connections = std::mem::take(&mut state.connections);
        drop(state);
        // The pool takes each when it is dropped.
        drop(connections);
    }
}

/// A caller that has a connection or looks for one.
pub struct User<C> {
    idle: Arc<Idle<C>>,
}

impl<C> User<C> {
    /// Returns the idle connection that suits a shop best. If it returns none, the caller asks the pool.
    pub fn take(&self, fit: impl Fn(&C) -> Fit) -> Option<C> {
        let mut state = self.idle.state.lock();
        let best = best(&state.connections, fit)?;
        state.connections.remove(best)
    }

    /// Keeps a connection for the next caller. If a caller may be waiting at the pool, the pool gets it.
    pub fn put_back(self, connection: C) {
        let mut state = self.idle.state.lock();
        // Each user, this one included, and each idle connection needs one of the `most` places of the pool. If there
        // are not enough, a user waits at the pool. If there are, none does, and later ones look here first. So nobody
        // waits at the pool while a connection is idle here.
        if !state.closed && state.users + state.connections.len() <= self.idle.most {
            state.connections.push_back(connection);
            return;
        }
        drop(state);
        // The pool takes it.
        drop(connection);
    }
}

impl<C> Drop for User<C> {
    fn drop(&mut self) {
        self.idle.state.lock().users -= 1;
    }
}

/// Returns the index of the connection that suits a shop best. Of several that served the shop last, that is the one
/// that was returned last. Of several that have served it before other shops, and of several new ones, it is the one
/// that has been idle longest.
fn best<C>(connections: &VecDeque<C>, fit: impl Fn(&C) -> Fit) -> Option<usize> {
    let mut best = if connections.is_empty() { None } else { Some(0) };
    for (at, connection) in connections.iter().enumerate().rev() {
        match fit(connection) {
            Fit::Current => return Some(at),
            Fit::Former => best = Some(at),
            Fit::New => {}
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection by the shops that it has served, the last one at the end.
    type Served = &'static str;

    fn fit(shop: char) -> impl Fn(&Served) -> Fit {
        move |served| match (served.ends_with(shop), served.contains(shop)) {
            (true, _) => Fit::Current,
            (false, true) => Fit::Former,
            (false, false) => Fit::New,
        }
    }

    #[test]
    fn a_shop_gets_the_idle_connection_that_suits_it_best() {
        let idle = Idle::new(5);
        // Each has its connection before the first one returns it.
        let users: Vec<_> = (0..5).map(|_| idle.user()).collect();
        for (user, served) in users.into_iter().zip(["b", "ab", "aab", "ba", "aba"]) {
            user.put_back(served);
        }
        let user = idle.user();
        let taken = ['a', 'a', 'a', 'c', 'c', 'c'].map(|shop| user.take(fit(shop)));
        // The last two that served it last, then the older one of the two that have served it before, then the oldest.
        assert_eq!(taken, [Some("aba"), Some("ba"), Some("ab"), Some("b"), Some("aab"), None]);
    }

    #[test]
    fn a_connection_goes_to_a_caller_that_waits_at_the_pool() {
        let idle = Idle::new(2);
        let connection = Arc::new(());
        let any = |_: &Arc<()>| Fit::New;
        let [first, second, waiting] = [(); 3].map(|()| idle.user());
        assert_eq!(waiting.take(any), None, "the other two have both connections");
        first.put_back(connection.clone());
        assert_eq!((idle.len(), Arc::strong_count(&connection)), (0, 1), "the pool has it for the third caller");
        second.put_back(connection.clone());
        assert_eq!(idle.len(), 1, "nobody waits for this one");
        // A caller that gives up leaves its place.
        drop(waiting);
        let [third, fourth] = [(); 2].map(|()| idle.user());
        assert_eq!(third.take(any), Some(connection.clone()));
        third.put_back(connection.clone());
        assert_eq!(idle.len(), 1, "the pool has another one for the fourth caller");
        idle.close();
        fourth.put_back(connection.clone());
        assert_eq!((idle.len(), Arc::strong_count(&connection)), (0, 1), "a closed pool gets all of them");
    }
}
