//! Implements the state machine of the link to one peer: when to dial, which session to use, when to give it up.
//!
//! The member with the greater name dials; the other waits. The fixed direction matters: `ractor_cluster` elects among
//! the sessions of a pair, and a stale session can make it refuse the new one, more reliably so if the other side
//! dialled. For the same reason a stale session is stopped before the next dial.
//!
//! ```text
//!            Dial                 opened             ready
//!   idle ───────────► dialling ───────────► awaiting ───────► up
//!    ▲ pause, doubled    │ failed, too late    │ closed, too late │ closed, silent
//!    └───────────────────┴─────────────────────┴──────────────────┘
//! ```

use std::time::Duration;

use super::config::LinkConfig;
use crate::clock::Moment;

/// A link that was up for this long is redialled after the shortest delay.
const STEADY: Duration = Duration::from_secs(2);

/// Number of a session's actor within this process.
pub type SessionId = u64;

/// Phase of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkPhase {
    /// No session. The dialling member dials again at this time.
    Idle(Moment),
    /// A connection is being made, until this deadline.
    Dialling(Moment),
    /// A session is being established, until this deadline.
    Awaiting(SessionId, Moment),
    /// The session is ready and envelopes flow.
    Up(SessionId),
}

impl LinkPhase {
    /// Name of the phase in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle(_) => "idle",
            Self::Dialling(_) => "dialling",
            Self::Awaiting(..) => "awaiting",
            Self::Up(_) => "up",
        }
    }
}

/// Input to the state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Periodic tick.
    Tick,
    /// The connection of this attempt could not be made.
    DialFailed {
        /// Number of the attempt.
        attempt: u64,
        /// Reason for the failure.
        reason: String,
    },
    /// The connection of this attempt became a session.
    Opened {
        /// Number of the attempt.
        attempt: u64,
        /// The new session.
        session: SessionId,
    },
    /// The peer's gateway answered on this session, dialled or accepted, so it can carry envelopes.
    Ready(SessionId),
    /// This session ended, with the reason.
    Closed(SessionId, String),
    /// The peer's gateway on this session has stopped or does not answer.
    GatewayGone(SessionId),
}

/// Action that the link actor must perform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Connect to the peer.
    Dial {
        /// Number of the attempt, counted from 1.
        attempt: u64,
    },
    /// Stop this session with this reason.
    StopSession(SessionId, &'static str),
    /// The link is up on this session.
    Up(SessionId),
    /// The link is down, for this reason.
    Down(String),
}

/// State of the link to one peer.
#[derive(Clone, Debug)]
pub struct PeerLink {
    dials: bool,
    handshake_timeout: Duration,
    redial: (Duration, Duration),
    phase: LinkPhase,
    attempt: u64,
    pause: Duration,
    up_since: Moment,
    last_loss: String,
}

impl PeerLink {
    /// Creates a link without a session. `jitter` between 0 and 1 spreads the first dials of members started together.
    pub fn new(dials: bool, config: &LinkConfig, now: Moment, jitter: f64) -> Self {
        Self {
            dials,
            handshake_timeout: config.handshake_timeout,
            redial: (config.redial_min, config.redial_max),
            phase: LinkPhase::Idle(now + config.redial_min.mul_f64(jitter.clamp(0.0, 1.0))),
            attempt: 0,
            pause: config.redial_min,
            up_since: now,
            last_loss: String::new(),
        }
    }

    /// Whether this member dials.
    pub fn dials(&self) -> bool {
        self.dials
    }

    /// Current phase.
    pub fn phase(&self) -> LinkPhase {
        self.phase
    }

    /// Reason of the last loss; empty if the link was never lost.
    pub fn last_loss(&self) -> &str {
        &self.last_loss
    }

    /// Applies `input` and returns the resulting actions.
    pub fn handle(&mut self, now: Moment, input: Input) -> Vec<Effect> {
        match (self.phase, input) {
            (LinkPhase::Idle(at), Input::Tick) if self.dials && now >= at => {
                self.attempt += 1;
                self.phase = LinkPhase::Dialling(now + self.handshake_timeout);
                vec![Effect::Dial { attempt: self.attempt }]
            }
            (LinkPhase::Dialling(until), Input::Tick) if now >= until => {
                self.idle(now, format!("no connection within {:?}", self.handshake_timeout));
                vec![]
            }
            (LinkPhase::Dialling(_), Input::DialFailed { attempt, reason }) if attempt == self.attempt => {
                self.idle(now, reason);
                vec![]
            }
            // The peer is authenticated; establishing the session gets the same timeout again.
            (LinkPhase::Dialling(_), Input::Opened { attempt, session }) if attempt == self.attempt => {
                self.phase = LinkPhase::Awaiting(session, now + self.handshake_timeout);
                vec![]
            }
            // The connection belongs to an attempt that was given up.
            (_, Input::Opened { session, .. }) => vec![Effect::StopSession(session, "too late")],
            (LinkPhase::Awaiting(session, until), Input::Tick) if now >= until => {
                self.idle(now, format!("no handshake within {:?}", self.handshake_timeout));
                vec![Effect::StopSession(session, "no handshake in time")]
            }
            (LinkPhase::Awaiting(session, _), Input::Closed(closed, reason)) if session == closed => {
                self.idle(now, reason);
                vec![]
            }
            (LinkPhase::Up(session), Input::Closed(closed, reason)) if session == closed => {
                self.idle(now, reason.clone());
                vec![Effect::Down(reason)]
            }
            (LinkPhase::Awaiting(session, _), Input::GatewayGone(gone)) if session == gone => {
                self.idle(now, "the peer's gateway is gone".to_owned());
                vec![Effect::StopSession(session, "gateway gone")]
            }
            (LinkPhase::Up(session), Input::GatewayGone(gone)) if session == gone => {
                let reason = "the peer's gateway is gone".to_owned();
                self.idle(now, reason.clone());
                vec![Effect::StopSession(session, "gateway gone"), Effect::Down(reason)]
            }
            (LinkPhase::Up(session), Input::Ready(ready)) if session == ready => vec![],
            // ractor_cluster elected this session over the one known so far.
            (phase, Input::Ready(session)) => {
                self.phase = LinkPhase::Up(session);
                self.up_since = now;
                let mut effects = match phase {
                    LinkPhase::Up(old) => vec![
                        Effect::StopSession(old, "replaced"),
                        Effect::Down("replaced by a new session".to_owned()),
                    ],
                    LinkPhase::Awaiting(old, _) if old != session => {
                        vec![Effect::StopSession(old, "replaced")]
                    }
                    _ => vec![],
                };
                effects.push(Effect::Up(session));
                effects
            }
            // An accepted session that this link does not know yet.
            (_, Input::GatewayGone(session)) => vec![Effect::StopSession(session, "gateway gone")],
            (_, Input::Tick | Input::DialFailed { .. } | Input::Closed(..)) => vec![],
        }
    }

    fn idle(&mut self, now: Moment, reason: String) {
        // Backoff slows down two processes that keep taking the link from each other.
        if matches!(self.phase, LinkPhase::Up(_)) && now.since(self.up_since) >= STEADY {
            self.pause = self.redial.0;
        }
        self.phase = LinkPhase::Idle(now + self.pause);
        self.pause = (self.pause * 2).min(self.redial.1);
        self.last_loss = reason;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Input = Input::Tick;

    fn closed(session: SessionId) -> Input {
        Input::Closed(session, "the connection was closed".to_owned())
    }

    fn at(ms: u64) -> Moment {
        Moment::at(Duration::from_millis(ms))
    }

    fn peer(dials: bool) -> PeerLink {
        let listen = "127.0.0.1:1".parse().expect("an address");
        let config = LinkConfig {
            redial_min: Duration::from_millis(50),
            redial_max: Duration::from_millis(400),
            ..LinkConfig::new(listen, vec![])
        };
        PeerLink::new(dials, &config, at(0), 0.0)
    }

    fn up(session: SessionId) -> PeerLink {
        let mut peer = peer(true);
        peer.handle(at(0), TICK);
        peer.handle(at(1), Input::Opened { attempt: 1, session });
        assert_eq!(peer.handle(at(2), Input::Ready(session)), [Effect::Up(session)]);
        peer
    }

    #[test]
    fn only_the_dialler_dials_and_not_again_while_it_does() {
        assert_eq!(peer(false).handle(at(10_000), TICK), []);
        let mut peer = peer(true);
        assert_eq!(peer.handle(at(0), TICK), [Effect::Dial { attempt: 1 }]);
        assert_eq!(peer.handle(at(500), TICK), []);
    }

    #[test]
    fn pauses_between_dials_double_up_to_the_longest_and_begin_anew_after_a_session() {
        let mut peer = peer(true);
        let mut now = 0;
        let mut pauses = vec![];
        for attempt in 1..=6 {
            let failed_at = now;
            while peer.handle(at(now), TICK).is_empty() {
                now += 10;
            }
            pauses.push(now - failed_at);
            peer.handle(at(now), Input::DialFailed { attempt, reason: "refused".into() });
        }
        assert_eq!(pauses, [0, 50, 100, 200, 400, 400]);
        peer.handle(at(now), Input::Ready(9));
        now += 1_000;
        peer.handle(at(now), closed(9));
        assert_eq!(peer.handle(at(now + 399), TICK), [], "a link that did not last changes nothing");
        peer.handle(at(now + 399), Input::Ready(10));
        now += 2_399;
        peer.handle(at(now), closed(10));
        assert_eq!(peer.handle(at(now + 50), TICK), [Effect::Dial { attempt: 7 }]);
    }

    #[test]
    fn a_handshake_that_takes_too_long_is_stopped_before_the_next_dial() {
        let mut peer = peer(true);
        peer.handle(at(0), TICK);
        peer.handle(at(10), Input::Opened { attempt: 1, session: 5 });
        assert_eq!(peer.handle(at(1_000), TICK), []);
        assert_eq!(peer.handle(at(1_010), TICK), [Effect::StopSession(5, "no handshake in time")]);
        assert_eq!(peer.handle(at(1_060), TICK), [Effect::Dial { attempt: 2 }]);
        let late = Input::Opened { attempt: 1, session: 6 };
        assert_eq!(peer.handle(at(1_070), late), [Effect::StopSession(6, "too late")]);
    }

    #[test]
    fn the_loss_of_a_session_is_told_once_with_its_reason_and_that_of_another_not_at_all() {
        let mut peer = up(5);
        assert_eq!(peer.handle(at(100), closed(4)), []);
        let reason = "the connection was closed".to_owned();
        assert_eq!(peer.handle(at(100), closed(5)), [Effect::Down(reason.clone())]);
        assert_eq!(peer.handle(at(101), closed(5)), []);
        assert_eq!(peer.last_loss(), reason);
    }

    #[test]
    fn a_session_whose_gateway_is_gone_is_given_up_and_dialled_anew() {
        let mut peer = up(5);
        let effects = peer.handle(at(100), Input::GatewayGone(5));
        assert!(matches!(&effects[..], [Effect::StopSession(5, _), Effect::Down(_)]), "{effects:?}");
        assert_eq!(peer.handle(at(150), TICK), [Effect::Dial { attempt: 2 }]);
    }

    #[test]
    fn a_new_session_replaces_the_old_one() {
        let mut peer = up(5);
        let effects = peer.handle(at(100), Input::Ready(6));
        let expected = [
            Effect::StopSession(5, "replaced"),
            Effect::Down("replaced by a new session".into()),
            Effect::Up(6),
        ];
        assert_eq!(effects, expected);
        assert_eq!(peer.handle(at(101), closed(5)), []);
        assert_eq!(peer.phase(), LinkPhase::Up(6));
    }
}
