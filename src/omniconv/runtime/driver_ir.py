"""LLVM IR of the driver, with ``<WORDS>`` that :func:`omniconv.runtime.driver.emit_driver` fills in.

Functions, from the inside out: ``word`` reads one word; ``stamp`` writes the time, if times are wanted; ``barrier``
counts arrivals and raises a phase; ``share`` runs one thread's part of the table; ``run`` is one call of the caller;
``serve`` is the loop of a worker; ``linger`` pauses.

Memory order: what a thread wrote before a barrier is seen by all after it, because arriving is an acquire-release
operation on one word, the last to arrive releases the phase and the others acquire it. What the caller wrote to the
control block reaches the workers through the epoch in the same way. Announcements of sleep and the epoch are
sequentially consistent.
"""

from __future__ import annotations

from typing import Final

DRIVER: Final = """
<DECLARE_PAUSE>

define internal i64 @word(ptr %control, i64 %index) alwaysinline {
  %at = getelementptr i64, ptr %control, i64 %index
  %value = load i64, ptr %at
  ret i64 %value
}

define internal void @stamp(ptr %control, ptr %times, i64 %index) {
  %now = alloca [2 x i64]
  %none = icmp eq ptr %times, null
  br i1 %none, label %done, label %read
read:
  %address = call i64 @word(ptr %control, i64 <CLOCK>)
  %clock = inttoptr i64 %address to ptr
  <READ_CLOCK>
  %at = getelementptr i64, ptr %times, i64 %index
  store i64 %ticks, ptr %at
  br label %done
done:
  ret void
}

define internal void @barrier(ptr %control, i64 %threads) {
  %arrived = getelementptr i64, ptr %control, i64 <ARRIVED>
  %phase = getelementptr i64, ptr %control, i64 <PHASE>
  %spins = call i64 @word(ptr %control, i64 <BARRIER_SPINS>)
  %old = load atomic i64, ptr %phase monotonic, align 8
  %before = atomicrmw add ptr %arrived, i64 1 acq_rel
  %count = add i64 %before, 1
  %last = icmp eq i64 %count, %threads
  br i1 %last, label %open, label %wait
open:
  store atomic i64 0, ptr %arrived monotonic, align 8
  %new = add i64 %old, 1
  store atomic i64 %new, ptr %phase release, align 8
  ret void
wait:
  %spun = phi i64 [ 0, %0 ], [ %more, %spin ], [ %spun, %give ]
  %now = load atomic i64, ptr %phase acquire, align 8
  %waits = icmp eq i64 %now, %old
  br i1 %waits, label %again, label %done
again:
  %patient = icmp ult i64 %spun, %spins
  br i1 %patient, label %spin, label %give
spin:
  <PAUSE>
  %more = add i64 %spun, 1
  br label %wait
give:
  %address = call i64 @word(ptr %control, i64 <YIELD>)
  %yield = inttoptr i64 %address to ptr
  call i32 %yield()
  br label %wait
done:
  ret void
}

define internal void @share(ptr %control, i64 %thread, ptr %times) {
  %threads = call i64 @word(ptr %control, i64 <THREADS>)
  %steps = call i64 @word(ptr %control, i64 <STEPS>)
  %table_address = call i64 @word(ptr %control, i64 <TABLE>)
  %table = inttoptr i64 %table_address to ptr
  %next = add i64 %thread, 1
  call void @stamp(ptr %control, ptr %times, i64 0)
  br label %step
step:
  %index = phi i64 [ 0, %0 ], [ %following, %passed ]
  %following = add i64 %index, 1
  %offset = mul i64 %index, <STEP_WORDS>
  %record = getelementptr i64, ptr %table, i64 %offset
  %function_address = call i64 @word(ptr %record, i64 0)
  %args_address = call i64 @word(ptr %record, i64 1)
  %units = call i64 @word(ptr %record, i64 2)
  %flags = call i64 @word(ptr %record, i64 3)
  %function = inttoptr i64 %function_address to ptr
  %args = inttoptr i64 %args_address to ptr
  %low = mul i64 %units, %thread
  %high = mul i64 %units, %next
  %begin = udiv i64 %low, %threads
  %end = udiv i64 %high, %threads
  %some = icmp ult i64 %begin, %end
  br i1 %some, label %work, label %worked
work:
  call void %function(ptr %args, i64 %begin, i64 %end, i64 %thread)
  br label %worked
worked:
  %last = icmp eq i64 %following, %steps
  %bit = and i64 %flags, <NO_BARRIER>
  %needed = icmp eq i64 %bit, 0
  %meet = or i1 %last, %needed
  br i1 %meet, label %met, label %passed
met:
  call void @barrier(ptr %control, i64 %threads)
  br label %passed
passed:
  call void @stamp(ptr %control, ptr %times, i64 %following)
  br i1 %last, label %done, label %step
done:
  ret void
}

define internal void @run(ptr %control) {
  %epoch = getelementptr i64, ptr %control, i64 <EPOCH>
  %threads = call i64 @word(ptr %control, i64 <THREADS>)
  %post_address = call i64 @word(ptr %control, i64 <POST>)
  %post = inttoptr i64 %post_address to ptr
  atomicrmw add ptr %epoch, i64 1 seq_cst
  br label %look
look:
  %thread = phi i64 [ 1, %0 ], [ %next, %looked ]
  %next = add i64 %thread, 1
  %more = icmp ult i64 %thread, %threads
  br i1 %more, label %check, label %go
check:
  %offset = mul i64 %thread, <LINE>
  %word = add i64 %offset, <WORKERS>
  %line = getelementptr i64, ptr %control, i64 %word
  %sleeps = load atomic i64, ptr %line seq_cst, align 8
  %asleep = icmp ne i64 %sleeps, 0
  br i1 %asleep, label %take, label %looked
take:
  %taken = atomicrmw xchg ptr %line, i64 0 seq_cst
  %mine = icmp ne i64 %taken, 0
  br i1 %mine, label %wake, label %looked
wake:
  %handle_address = call i64 @word(ptr %line, i64 <SEMAPHORE>)
  %handle = inttoptr i64 %handle_address to ptr
  call i32 %post(ptr %handle, i64 1, ptr null)
  br label %looked
looked:
  br label %look
go:
  %steps = call i64 @word(ptr %control, i64 <STEPS>)
  %empty = icmp eq i64 %steps, 0
  br i1 %empty, label %done, label %work
work:
  %times_address = call i64 @word(ptr %control, i64 <TIMES>)
  %times = inttoptr i64 %times_address to ptr
  call void @share(ptr %control, i64 0, ptr %times)
  br label %done
done:
  ret void
}

define internal void @serve(ptr %control, i64 %thread) {
  %epoch = getelementptr i64, ptr %control, i64 <EPOCH>
  %spins = call i64 @word(ptr %control, i64 <IDLE_SPINS>)
  %wait_address = call i64 @word(ptr %control, i64 <WAIT>)
  %wait = inttoptr i64 %wait_address to ptr
  %offset = mul i64 %thread, <LINE>
  %word = add i64 %offset, <WORKERS>
  %line = getelementptr i64, ptr %control, i64 %word
  %handle_address = call i64 @word(ptr %line, i64 <SEMAPHORE>)
  %handle = inttoptr i64 %handle_address to ptr
  br label %idle
idle:
  %seen = phi i64 [ 0, %0 ], [ %now, %worked ]
  br label %look
look:
  %spun = phi i64 [ 0, %idle ], [ %more, %spin ], [ 0, %awake ]
  %now = load atomic i64, ptr %epoch acquire, align 8
  %same = icmp eq i64 %now, %seen
  br i1 %same, label %patience, label %begin
patience:
  %patient = icmp ult i64 %spun, %spins
  br i1 %patient, label %spin, label %announce
spin:
  <PAUSE>
  %more = add i64 %spun, 1
  br label %look
announce:
  atomicrmw xchg ptr %line, i64 1 seq_cst
  %still = load atomic i64, ptr %epoch seq_cst, align 8
  %quiet = icmp eq i64 %still, %seen
  br i1 %quiet, label %sleep, label %awake
sleep:
  call i32 %wait(ptr %handle, i64 -1)
  br label %awake
awake:
  atomicrmw xchg ptr %line, i64 0 seq_cst
  br label %look
begin:
  %stop = call i64 @word(ptr %control, i64 <STOP>)
  %stopped = icmp ne i64 %stop, 0
  br i1 %stopped, label %done, label %work
work:
  call void @share(ptr %control, i64 %thread, ptr null)
  br label %worked
worked:
  br label %idle
done:
  ret void
}

define internal void @linger(i64 %count) {
  br label %turn
turn:
  %index = phi i64 [ 0, %0 ], [ %next, %turn ]
  <PAUSE>
  %next = add i64 %index, 1
  %more = icmp ult i64 %next, %count
  br i1 %more, label %turn, label %done
done:
  ret void
}

define void @<NAME>(ptr %control, i64 %thread, i64 %count) {
  %measures = icmp slt i64 %thread, 0
  br i1 %measures, label %pauses, label %role
pauses:
  call void @linger(i64 %count)
  ret void
role:
  %serves = icmp sgt i64 %thread, 0
  br i1 %serves, label %worker, label %caller
worker:
  call void @serve(ptr %control, i64 %thread)
  ret void
caller:
  call void @run(ptr %control)
  ret void
}
"""
