//! Draws the board in the terminal repeatedly, and reads keys. The terminal is restored however the view ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use alys_cluster::clock::{Clock, SystemClock};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};

use super::state::Board;
use super::target::Target;
use super::view::{self, Paint};
use super::{End, TopError, poll};

/// Maximum delay before a key or a response is handled.
const FRAME: Duration = Duration::from_millis(100);
/// Time that the view has to end after a signal. Reading keys from a terminal that is gone blocks forever.
const GRACE: Duration = Duration::from_secs(1);
/// Maximum number of responses queued per member.
const WAITING: usize = 4;

/// Restores the terminal when dropped; the panic hook does so too.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Shows the members until the user quits.
pub(super) fn show(targets: Vec<Target>, interval: Duration) -> Result<End, TopError> {
    let stop = Arc::new(AtomicBool::new(false));
    let signalled = signals().map_err(TopError::Terminal)?;
    let terminal = ratatui::try_init().map_err(TopError::Terminal)?;
    let restore = Restore;
    let outcome = watch(terminal, targets, interval, &stop, &signalled);
    drop(restore);
    // Threads that wait for an unresponsive member end with the process.
    stop.store(true, Ordering::Relaxed);
    outcome
}

fn watch(
    mut terminal: DefaultTerminal,
    targets: Vec<Target>,
    interval: Duration,
    stop: &Arc<AtomicBool>,
    signalled: &AtomicU8,
) -> Result<End, TopError> {
    let clock = SystemClock::default();
    let paint = Paint { colour: crate::logs::is_colour_wanted() };
    let (told, heard) = sync_channel(WAITING * targets.len().max(1));
    let watchers: Vec<_> = targets
        .iter()
        .enumerate()
        .map(|(member, target)| poll::watch(member, target.clone(), interval, told.clone(), stop.clone()))
        .collect();
    let mut board = Board::new(targets);
    loop {
        while let Ok(heard) = heard.try_recv() {
            board.absorb(clock.now(), heard);
        }
        // The panic of that thread has already restored the terminal.
        if watchers.iter().any(std::thread::JoinHandle::is_finished) {
            return Err(TopError::Watcher);
        }
        terminal.draw(|frame| view::draw(frame, &board, clock.now(), paint)).map_err(TopError::Terminal)?;
        if event::poll(FRAME).map_err(TopError::Terminal)? {
            // A resize of the terminal is drawn at once.
            match event::read().map_err(TopError::Terminal)? {
                Event::Key(key) if quits(key) => return Ok(End::Well),
                _ => {}
            }
        }
        match signalled.load(Ordering::Relaxed) {
            0 => {}
            number => return Ok(End::Signal(number)),
        }
    }
}

/// Whether a key ends the view.
fn quits(key: KeyEvent) -> bool {
    let interrupts = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    let leaves = matches!(key.code, KeyCode::Char('q' | 'Q') | KeyCode::Esc);
    key.kind == KeyEventKind::Press && (interrupts || leaves)
}

/// Number of the first signal that asks the process to end; 0 while there is none.
fn signals() -> io::Result<Arc<AtomicU8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = Arc::new(AtomicU8::new(0));
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let inside = runtime.enter();
    let listeners: Vec<_> =
        kinds.into_iter().map(|kind| Ok((kind, signal(kind)?))).collect::<io::Result<_>>()?;
    drop(inside);
    let tell = found.clone();
    std::thread::spawn(move || {
        runtime.block_on(async {
            let mut waiting = tokio::task::JoinSet::new();
            for (kind, mut listener) in listeners {
                waiting.spawn(async move {
                    listener.recv().await;
                    kind
                });
            }
            if let Some(Ok(kind)) = waiting.join_next().await {
                let number = u8::try_from(kind.as_raw_value()).unwrap_or(0);
                tell.store(number, Ordering::Relaxed);
                tokio::time::sleep(GRACE).await;
                ratatui::restore();
                std::process::exit(End::Signal(number).code().into());
            }
        });
    });
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_that_quit_quit_and_others_do_not() {
        let key = |code, modifiers| KeyEvent::new(code, modifiers);
        for (code, modifiers) in [
            (KeyCode::Char('q'), KeyModifiers::NONE),
            (KeyCode::Esc, KeyModifiers::NONE),
            (KeyCode::Char('c'), KeyModifiers::CONTROL),
        ] {
            assert!(quits(key(code, modifiers)), "{code}");
        }
        for code in [KeyCode::Char('c'), KeyCode::Enter, KeyCode::Char('x')] {
            assert!(!quits(key(code, KeyModifiers::NONE)), "{code}");
        }
    }
}
