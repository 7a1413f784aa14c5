//! Two servers of one name: one has a copy of the other's data.
//!
//! A store's name lies in its data, and a copy of the data has it too. Which run of a server it is tells them apart, but that
//! changes at each restart, after which the store is the same. So a run is compared only with those of stores that are open in
//! this process, and these are asked: where two servers are there at the same time, the one that was opened later is the copy.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{
    layout::{Report, ask_report},
    link::Link,
};

/// The stores that are open in this process.
static OPEN: Mutex<Vec<Opened>> = Mutex::new(Vec::new());

#[derive(Clone)]
struct Opened {
    name: String,
    run: String,
    /// What this process calls it.
    identity: String,
    link: Weak<Link>,
}

/// What this process calls a store of this name on the server that gave this report, and how it is told from others.
pub(super) async fn identify(name: &str, report: &Report, link: &Arc<Link>) -> String {
    // Where it may not be asked, its name must do.
    let Some(run) = report.get("run_id").map(str::to_owned) else { return name.to_owned() };
    let others: Vec<_> = lock().iter().filter(|opened| opened.name == name).cloned().collect();
    let mut identity = others.iter().find(|opened| opened.run == run).map(|opened| opened.identity.clone());
    if identity.is_none() {
        for other in others {
            let Some(link) = other.link.upgrade() else { continue };
            let Ok(report) = ask_report(&link).await else { continue };
            match report.get("run_id") {
                Some(now) if now == run => {
                    identity = Some(other.identity);
                    break;
                }
                Some(_) => identity = Some(format!("{name}@{run}")),
                None => {}
            }
        }
    }
    let identity = identity.unwrap_or_else(|| name.to_owned());
    let mut open = lock();
    open.retain(|opened| opened.link.strong_count() > 0);
    open.push(Opened { name: name.to_owned(), run, identity: identity.clone(), link: Arc::downgrade(link) });
    identity
}

fn lock() -> std::sync::MutexGuard<'static, Vec<Opened>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}
