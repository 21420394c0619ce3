//! Notifications to systemd, if it asks for them by NOTIFY_SOCKET and WATCHDOG_USEC; without these
//! nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;

use super::heartbeat::Heartbeat;
use super::listeners::Addresses;

/// The daemon serves. Keeps the watchdog content from here on, as long as every part makes
/// progress: systemd then starts another daemon, which takes over the runners.
pub(super) fn ready(addresses: &Addresses, heartbeat: Heartbeat) {
    let status = addresses.to_string();
    notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
    if let Some(patience) = sd_notify::watchdog_enabled() {
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(patience / 2);
            loop {
                ticks.tick().await;
                if heartbeat.is_hopeless() {
                    let words = heartbeat.standstill().unwrap_or_default();
                    tracing::error!("{words}; systemd's watchdog is left to end the daemon");
                    return;
                }
                notify(&[NotifyState::Watchdog]);
            }
        });
    }
}

/// The daemon shuts down, which takes no longer than that.
pub(super) fn stopping(timeout: Duration) {
    let micros = u32::try_from(timeout.as_micros()).unwrap_or(u32::MAX);
    notify(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros)]);
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be notified");
    }
}
