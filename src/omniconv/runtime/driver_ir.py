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

define internal ptr @claim(ptr %control, i64 %thread, i64 %parity) {
  %offset = mul i64 %thread, <LINE>
  %line = add i64 %offset, <WORKERS>
  %word = add i64 %line, <CLAIM>
  %index = add i64 %word, %parity
  %address = getelementptr i64, ptr %control, i64 %index
  ret ptr %address
}

define internal void @share(ptr %control, i64 %thread, ptr %times) {
  %threads = call i64 @word(ptr %control, i64 <THREADS>)
  %steps = call i64 @word(ptr %control, i64 <STEPS>)
  %table_address = call i64 @word(ptr %control, i64 <TABLE>)
  %table = inttoptr i64 %table_address to ptr
  %first = call i64 @word(ptr %control, i64 <FIRST>)
  call void @stamp(ptr %control, ptr %times, i64 0)
  br label %step
step:
  %index = phi i64 [ 0, %0 ], [ %following, %met ]
  %following = add i64 %index, 1
  %offset = mul i64 %index, <STEP_WORDS>
  %record = getelementptr i64, ptr %table, i64 %offset
  %function_address = call i64 @word(ptr %record, i64 0)
  %args_address = call i64 @word(ptr %record, i64 1)
  %units = call i64 @word(ptr %record, i64 2)
  %given = call i64 @word(ptr %record, i64 3)
  %function = inttoptr i64 %function_address to ptr
  %args = inttoptr i64 %args_address to ptr
  %count = add i64 %first, %index
  %parity = and i64 %count, 1
  %later = xor i64 %parity, 1
  %mine = call ptr @claim(ptr %control, i64 %thread, i64 %later)
  store atomic i64 0, ptr %mine monotonic, align 8
  %alone = icmp eq i64 %threads, 1
  br i1 %alone, label %whole, label %several
whole:
  %any = icmp ne i64 %units, 0
  br i1 %any, label %once, label %met
once:
  call void %function(ptr %args, i64 0, i64 %units, i64 0)
  br label %met
several:
  %parts = mul i64 %threads, <CLAIMS>
  %fair = udiv i64 %units, %parts
  %fixed = icmp ne i64 %given, 0
  %wanted = select i1 %fixed, i64 %given, i64 %fair
  %none = icmp eq i64 %wanted, 0
  %grain = select i1 %none, i64 1, i64 %wanted
  br label %victim
victim:
  %turn = phi i64 [ 0, %several ], [ %turned, %exhausted ]
  %turned = add i64 %turn, 1
  %sum = add i64 %thread, %turn
  %owner = urem i64 %sum, %threads
  %next = add i64 %owner, 1
  %low = mul i64 %units, %owner
  %high = mul i64 %units, %next
  %begin = udiv i64 %low, %threads
  %end = udiv i64 %high, %threads
  %claims = call ptr @claim(ptr %control, i64 %owner, i64 %parity)
  br label %take
take:
  %taken = atomicrmw add ptr %claims, i64 %grain monotonic
  %from = add i64 %begin, %taken
  %some = icmp ult i64 %from, %end
  br i1 %some, label %work, label %exhausted
work:
  %beyond = add i64 %from, %grain
  %short = icmp ult i64 %beyond, %end
  %to = select i1 %short, i64 %beyond, i64 %end
  call void %function(ptr %args, i64 %from, i64 %to, i64 %thread)
  br label %take
exhausted:
  %others = icmp ult i64 %turned, %threads
  br i1 %others, label %victim, label %met
met:
  call void @barrier(ptr %control, i64 %threads)
  call void @stamp(ptr %control, ptr %times, i64 %following)
  %last = icmp eq i64 %following, %steps
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
