//! Messages of one partition, laid out side by side, and the room they take.
//!
//! In: messages in the order of their offsets. Out: the same, by number. Keys and headers are kept
//! only where somebody asked for them. The room is given back when the messages are dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A chunk of messages ends at this many bytes: its arrays then fit into a core's own cache.
pub(in crate::kafka) const CHUNK_BYTES: usize = 1024 * 1024;

/// And at this many messages, however small they are; a batch may hold 64 Ki.
pub(in crate::kafka) const CHUNK_MESSAGES: usize = 16 * 1024;

/// What a message takes besides its bytes.
const MESSAGE_BYTES: usize = 40;

/// Bytes that messages of one source may take, and do.
#[derive(Debug, Default)]
pub(in crate::kafka) struct Room {
    /// In the queue and in epochs.
    all: AtomicUsize,
    /// In epochs.
    taken: AtomicUsize,
    /// The most there may be.
    pub bytes_max: usize,
}

impl Room {
    pub(in crate::kafka) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, ..Self::default() })
    }

    /// Whether more may be fetched.
    pub(in crate::kafka) fn has_some(&self) -> bool {
        self.all.load(Ordering::Relaxed) < self.bytes_max
    }

    /// Whether the epoch at work holds its part: the other is for what is fetched meanwhile.
    pub(in crate::kafka) fn is_half_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed) >= self.bytes_max / 2
    }

    /// Bytes that wait to be taken.
    pub(in crate::kafka) fn queued(&self) -> usize {
        let all = self.all.load(Ordering::Relaxed);
        all.saturating_sub(self.taken.load(Ordering::Relaxed))
    }
}

/// Slices of one array of bytes, some of which are none.
#[derive(Debug, Default)]
pub(in crate::kafka) struct Parts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    there: Vec<bool>,
}

impl Parts {
    pub(in crate::kafka) fn push(&mut self, part: Option<&[u8]>) {
        self.bytes.extend_from_slice(part.unwrap_or_default());
        self.ends.push(self.bytes.len());
        self.there.push(part.is_some());
    }

    pub(in crate::kafka) fn get(&self, i: usize) -> Option<&[u8]> {
        let start = i.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.there[i].then(|| &self.bytes[start..self.ends[i]])
    }
}

/// Names and values of one message's headers.
pub(in crate::kafka) type Headers = Vec<(String, Option<Vec<u8>>)>;

/// A run of messages of one partition.
#[derive(Debug)]
pub(in crate::kafka) struct Messages {
    /// The partition, as it is shown.
    pub partition: Arc<str>,
    /// The topic.
    pub topic: Arc<str>,
    /// The partition's number.
    pub number: i32,
    /// Offsets, growing, with or without gaps.
    pub offsets: Vec<i64>,
    /// Milliseconds since 1970; none where the broker knows none.
    pub timestamps: Vec<Option<i64>>,
    /// Values; none is a tombstone.
    pub values: Parts,
    /// Keys, where they are asked for.
    pub keys: Option<Parts>,
    /// Headers, where they are asked for.
    pub headers: Option<Vec<Headers>>,
    bytes: usize,
    taken: bool,
    room: Arc<Room>,
}

/// One message, as it comes.
pub(in crate::kafka) struct Message<'a> {
    pub offset: i64,
    pub timestamp: Option<i64>,
    pub value: Option<&'a [u8]>,
    pub key: Option<&'a [u8]>,
    pub headers: Headers,
}

/// What is kept of messages besides their values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::kafka) struct Kept {
    pub keys: bool,
    pub headers: bool,
}

impl Messages {
    pub(in crate::kafka) fn new(
        partition: &Arc<str>,
        topic: &Arc<str>,
        number: i32,
        kept: Kept,
        room: &Arc<Room>,
    ) -> Self {
        Self {
            partition: partition.clone(),
            topic: topic.clone(),
            number,
            offsets: Vec::new(),
            timestamps: Vec::new(),
            values: Parts::default(),
            keys: kept.keys.then(Parts::default),
            headers: kept.headers.then(Vec::new),
            bytes: 0,
            taken: false,
            room: room.clone(),
        }
    }

    pub(in crate::kafka) fn push(&mut self, message: Message<'_>) {
        let mut bytes = MESSAGE_BYTES + message.value.map_or(0, <[u8]>::len);
        self.offsets.push(message.offset);
        self.timestamps.push(message.timestamp);
        self.values.push(message.value);
        if let Some(keys) = &mut self.keys {
            bytes += message.key.map_or(0, <[u8]>::len);
            keys.push(message.key);
        }
        if let Some(headers) = &mut self.headers {
            let sizes = message.headers.iter().map(|(name, value)| {
                MESSAGE_BYTES + name.len() + value.as_ref().map_or(0, Vec::len)
            });
            bytes += sizes.sum::<usize>();
            headers.push(message.headers);
        }
        self.bytes += bytes;
        self.room.all.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How many there are.
    pub(in crate::kafka) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// What they take.
    pub(in crate::kafka) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the chunk is to end.
    pub(in crate::kafka) fn is_full(&self) -> bool {
        self.bytes >= CHUNK_BYTES || self.len() >= CHUNK_MESSAGES
    }

    /// Says that they are an epoch's from now on.
    pub(in crate::kafka) fn take(mut self) -> Self {
        self.taken = true;
        self.room.taken.fetch_add(self.bytes, Ordering::Relaxed);
        self
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.room.all.fetch_sub(self.bytes, Ordering::Relaxed);
        if self.taken {
            self.room.taken.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_take_room_until_they_are_dropped() {
        let room = Room::new(100);
        let (partition, topic): (Arc<str>, Arc<str>) = ("t/0".into(), "t".into());
        let kept = Kept { keys: true, headers: false };
        let mut messages = Messages::new(&partition, &topic, 0, kept, &room);
        for (offset, value) in [(3, Some(b"abc".as_slice())), (5, None)] {
            let (timestamp, headers) = (Some(7), Vec::new());
            messages.push(Message { offset, timestamp, value, key: Some(b"k"), headers });
        }
        assert_eq!(messages.values.get(0), Some(b"abc".as_slice()));
        assert_eq!(messages.values.get(1), None);
        assert_eq!(messages.keys.as_ref().unwrap().get(1), Some(b"k".as_slice()));
        assert!(room.has_some() && !room.is_half_taken());
        let messages = messages.take();
        assert!(room.is_half_taken());
        assert_eq!(room.queued(), 0);
        drop(messages);
        assert!(!room.is_half_taken());
        assert_eq!(room.all.load(Ordering::Relaxed), 0);
    }
}
