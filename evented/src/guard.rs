//! The edge to the application's code, which may panic wherever it is called or dropped: what goes over it is guarded here.

use std::{
    any::Any,
    ops::{Deref, DerefMut},
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Runs the application's code; its panic is an error with what it said. What the code left half-done is seen by nobody but
/// the application, as with any panic of a thread.
pub(crate) fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(panicked)
}

/// Drops what is the application's, whose `Drop` may panic: nobody is left to tell.
pub(crate) fn let_go<T>(value: T) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // Its own `Drop` may panic too, and what that throws again, without end. One that does not is kept as well: this is
        // rare, and a leak.
        std::mem::forget(panic);
    }
}

/// What a panic said; its value is let go, which may be a type with a `Drop` of its own.
#[cold]
pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> String {
    let said = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let said = format!("panicked: {}", said.unwrap_or("with a value that is not text"));
    let_go(panic);
    said
}

/// A value of the application's in our hands: wherever we drop it, a panic of its `Drop` goes no further.
pub(crate) struct Guarded<T>(Option<T>);

impl<T> Guarded<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Deref for Guarded<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is taken when it is dropped")
    }
}

impl<T> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("it is taken when it is dropped")
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        if let Some(value) = self.0.take() {
            let_go(value);
        }
    }
}
