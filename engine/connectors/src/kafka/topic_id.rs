//! The ids of topics, which tell a topic from an earlier one of the same name.
//!
//! In: a client and names. Out: ids by name; none for those the broker does not tell. The Rust client
//! has no call for it, so the C library is called: the one place of the crate that does.
#![expect(unsafe_code, reason = "rd_kafka_DescribeTopics has no safe binding yet")]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::time::Duration;

use rdkafka::bindings as raw;
use rdkafka::client::{Client, ClientContext};

/// Asks for the ids of `names`. Without an answer in time there are none: what rests on them is a
/// second look, offsets are the first.
pub(super) fn topic_ids<C: ClientContext>(
    client: &Client<C>,
    names: &[String],
    wait: Duration,
) -> BTreeMap<String, String> {
    let texts: Vec<CString> = names.iter().filter_map(|n| CString::new(n.as_str()).ok()).collect();
    if texts.is_empty() {
        return BTreeMap::new();
    }
    let mut pointers: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
    let wait = c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: all pointers are made here, are not null where that is asked, and are destroyed once,
    // in the order the C library's documentation gives; what is read of the event is copied before
    // the event goes. `texts` outlives the call that copies it.
    unsafe {
        let queue = raw::rd_kafka_queue_new(client.native_ptr());
        let asked =
            raw::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        raw::rd_kafka_DescribeTopics(client.native_ptr(), asked, std::ptr::null(), queue);
        let event = raw::rd_kafka_queue_poll(queue, wait);
        let found = if event.is_null() { BTreeMap::new() } else { read(event) };
        if !event.is_null() {
            raw::rd_kafka_event_destroy(event);
        }
        raw::rd_kafka_TopicCollection_destroy(asked);
        raw::rd_kafka_queue_destroy(queue);
        found
    }
}

/// Copies what the answer says.
///
/// # Safety
/// `event` is an event that lives as long as the call.
unsafe fn read(event: *mut raw::rd_kafka_event_t) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    // SAFETY: the C library gives null for an event of another kind, and arrays of the length it says.
    unsafe {
        let result = raw::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return found;
        }
        let mut count = 0;
        let topics = raw::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        for i in 0..count {
            let topic = *topics.add(i);
            let error = raw::rd_kafka_TopicDescription_error(topic);
            let failed = !error.is_null()
                && raw::rd_kafka_error_code(error)
                    != raw::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            let id = raw::rd_kafka_TopicDescription_topic_id(topic);
            if failed || id.is_null() {
                continue;
            }
            let name = CStr::from_ptr(raw::rd_kafka_TopicDescription_name(topic));
            let id = CStr::from_ptr(raw::rd_kafka_Uuid_base64str(id));
            found.insert(name.to_string_lossy().into_owned(), id.to_string_lossy().into_owned());
        }
    }
    found
}
