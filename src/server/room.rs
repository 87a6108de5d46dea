//! Room in memory for what is long, shared by all calls: each of them is within its limit, and thousands would not be.

use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much of a body, or of an answer, needs no room.
const FREE: usize = 64 * 1024;
/// What all bodies under way may have together beyond that, in KiB; and all answers.
const ALL_KIB: usize = 256 * 1024;

/// Room for all bodies, or for all answers.
#[derive(Clone)]
pub(super) struct Room(Arc<Semaphore>);

/// A part of the room, for as long as it is there.
pub(super) type Held = OwnedSemaphorePermit;

impl Default for Room {
    fn default() -> Self {
        Self::of(ALL_KIB)
    }
}

impl Room {
    fn of(kib: usize) -> Self {
        Self(Arc::new(Semaphore::new(kib)))
    }

    /// Has `held` be enough for so many bytes; false if there is no room for that.
    pub(super) fn hold(&self, held: &mut Option<Held>, length: usize) -> bool {
        let kib = length.saturating_sub(FREE).div_ceil(1024);
        let more = kib.saturating_sub(held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        let Ok(permit) = Arc::clone(&self.0).try_acquire_many_owned(u32::try_from(more).unwrap_or(u32::MAX)) else {
            return false;
        };
        match held {
            Some(held) => held.merge(permit),
            None => *held = Some(permit),
        }
        true
    }

    /// The same answer, which has its part of the room until it is sent; `None` where there is no room for it.
    pub(super) async fn hold_answer(&self, answer: Response) -> Option<Response> {
        let length = usize::try_from(answer.body().size_hint().lower()).unwrap_or(usize::MAX);
        if length <= FREE {
            return Some(answer);
        }
        let (mut parts, body) = answer.into_parts();
        let held = if let Some(held) = parts.extensions.remove::<Arc<Held>>() {
            held
        } else {
            let mut held = None;
            self.hold(&mut held, length);
            Arc::new(held?)
        };
        // It is in memory as it is, and does not end early.
        let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
        Some(Response::from_parts(parts, Body::from(Bytes::from_owner(HeldBytes { bytes, _held: held }))))
    }
}

/// Bytes with their part of the room.
struct HeldBytes {
    bytes: Bytes,
    _held: Arc<Held>,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What is said where there is no room for an answer.
pub(super) const TOO_MANY_ANSWERS: &str = "Too many large answers at once. Please try again in a few seconds.";

#[cfg(test)]
mod tests {
    use super::*;

    async fn hold(room: &Room, length: usize) -> Option<Bytes> {
        let answer = room.hold_answer(Response::new(Body::from(vec![0; length]))).await?;
        Some(to_bytes(answer.into_body(), length).await.unwrap())
    }

    #[tokio::test]
    async fn an_answer_has_its_part_of_the_room_until_it_is_sent() {
        let room = Room::of(100);
        let sent = hold(&room, FREE + 60 * 1024).await.unwrap();
        assert!(hold(&room, FREE + 60 * 1024).await.is_none());
        assert!(hold(&room, FREE).await.is_some(), "a short one needs none");
        let rest = sent.slice(1..);
        drop(sent);
        assert!(hold(&room, FREE + 60 * 1024).await.is_none(), "the rest is not sent yet");
        drop(rest);
        assert!(hold(&room, FREE + 60 * 1024).await.is_some());
    }

    #[tokio::test]
    async fn an_answer_may_have_its_part_before_it_is_made() {
        let (room, mut held) = (Room::of(100), None);
        assert!(room.hold(&mut held, FREE + 90 * 1024));
        let mut answer = Response::new(Body::from(vec![0; FREE + 80 * 1024]));
        answer.extensions_mut().insert(Arc::new(held.unwrap()));
        let answer = room.hold_answer(answer).await.unwrap();
        assert!(hold(&room, FREE + 20 * 1024).await.is_none());
        drop(answer);
        assert!(hold(&room, FREE + 20 * 1024).await.is_some());
    }
}
