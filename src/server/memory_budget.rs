//! Memory budget for large bodies and answers, shared by all calls: each is limited, but thousands at once would be too
//! much.

use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The first bytes of each body or answer are not counted.
const UNCOUNTED: usize = 64 * 1024;
/// Budget for all bodies together, and for all answers together, in KiB.
const BUDGET_KIB: usize = 256 * 1024;

/// Memory budget for all bodies, or for all answers.
#[derive(Clone)]
pub(super) struct MemoryBudget(Arc<Semaphore>);

/// A part of the budget, until it is dropped.
pub(super) type MemoryReservation = OwnedSemaphorePermit;

impl Default for MemoryBudget {
    fn default() -> Self {
        Self::of(BUDGET_KIB)
    }
}

impl MemoryBudget {
    fn of(kib: usize) -> Self {
        Self(Arc::new(Semaphore::new(kib)))
    }

    /// Extends `reservation` to `length` bytes. Returns false if the budget is exhausted.
    pub(super) fn reserve(&self, reservation: &mut Option<MemoryReservation>, length: usize) -> bool {
        let kib = length.saturating_sub(UNCOUNTED).div_ceil(1024);
        let more = kib.saturating_sub(reservation.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        let Ok(permit) = Arc::clone(&self.0).try_acquire_many_owned(u32::try_from(more).unwrap_or(u32::MAX)) else {
            return false;
        };
        match reservation {
            Some(reservation) => reservation.merge(permit),
            None => *reservation = Some(permit),
        }
        true
    }

    /// Reserves memory for an answer until it is sent. Returns `None` if there is not enough.
    pub(super) async fn reserve_answer(&self, answer: Response) -> Option<Response> {
        let length = usize::try_from(answer.body().size_hint().lower()).unwrap_or(usize::MAX);
        if length <= UNCOUNTED {
            return Some(answer);
        }
        let (mut parts, body) = answer.into_parts();
        let reservation = if let Some(reservation) = parts.extensions.remove::<Arc<MemoryReservation>>() {
            reservation
        } else {
            let mut reservation = None;
            self.reserve(&mut reservation, length);
            Arc::new(reservation?)
        };
        // The body is in memory already, so reading it cannot fail.
        let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
        Some(Response::from_parts(
            parts,
            Body::from(Bytes::from_owner(ReservedBytes { bytes, _reservation: reservation })),
        ))
    }
}

/// Bytes with their reservation.
struct ReservedBytes {
    bytes: Bytes,
    _reservation: Arc<MemoryReservation>,
}

impl AsRef<[u8]> for ReservedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Error message if there is not enough memory for an answer.
pub(super) const TOO_MANY_LARGE_ANSWERS: &str = "Too many large answers at once. Please try again in a few seconds.";

#[cfg(test)]
mod tests {
    use super::*;

    async fn reserve(budget: &MemoryBudget, length: usize) -> Option<Bytes> {
        let answer = budget.reserve_answer(Response::new(Body::from(vec![0; length]))).await?;
        Some(to_bytes(answer.into_body(), length).await.unwrap())
    }

    #[tokio::test]
    async fn an_answer_holds_its_reservation_until_it_is_sent() {
        let budget = MemoryBudget::of(100);
        let sent = reserve(&budget, UNCOUNTED + 60 * 1024).await.unwrap();
        assert!(reserve(&budget, UNCOUNTED + 60 * 1024).await.is_none());
        assert!(reserve(&budget, UNCOUNTED).await.is_some(), "a short one needs none");
        let rest = sent.slice(1..);
        drop(sent);
        assert!(reserve(&budget, UNCOUNTED + 60 * 1024).await.is_none(), "the rest is not sent yet");
        drop(rest);
        assert!(reserve(&budget, UNCOUNTED + 60 * 1024).await.is_some());
    }

    #[tokio::test]
    async fn memory_for_an_answer_may_be_reserved_in_advance() {
        let (budget, mut reservation) = (MemoryBudget::of(100), None);
        assert!(budget.reserve(&mut reservation, UNCOUNTED + 90 * 1024));
        let mut answer = Response::new(Body::from(vec![0; UNCOUNTED + 80 * 1024]));
        answer.extensions_mut().insert(Arc::new(reservation.unwrap()));
        let answer = budget.reserve_answer(answer).await.unwrap();
        assert!(reserve(&budget, UNCOUNTED + 20 * 1024).await.is_none());
        drop(answer);
        assert!(reserve(&budget, UNCOUNTED + 20 * 1024).await.is_some());
    }
}
