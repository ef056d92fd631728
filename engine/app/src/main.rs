//! The `sluice` program: an allocator and a call into the library; everything else is there.

/// Long-lived tables grow the process with the system's allocator; this one gives memory back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    sluice::main()
}
