"""LLVM IR of the driver, with ``<WORDS>`` that :func:`omniconv.runtime.driver.emit_driver` fills in.

Functions, from the inside out: ``word`` reads one word; ``stamp`` writes the time, if times are wanted; ``rest`` is one
turn of a wait; ``count`` reads a counter of this run; ``share`` is one thread's part of a run; ``bind`` writes the
addresses of the caller's arrays to where the kernels read them; ``moved`` tells whether the caller changed processors;
``member`` is the part of a thread that is lent; ``run`` is one call of the caller; ``serve`` is the loop of a worker;
``linger`` pauses.

Memory order: what a thread wrote in a step is seen by all after it, because adding to the step's count of finished
units is a release, every later addition continues it, and who waits for the full count acquires it. What the caller
wrote to the control block reaches the workers through OPEN, which is sequentially consistent with ACTIVE, as the epoch
is with the announcements of sleep.
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

define internal i64 @rest(ptr %control, i64 %spun, i64 %spins) {
  %patient = icmp ult i64 %spun, %spins
  br i1 %patient, label %spin, label %give
spin:
  <PAUSE>
  %more = add i64 %spun, 1
  ret i64 %more
give:
  %address = call i64 @word(ptr %control, i64 <YIELD>)
  %yield = inttoptr i64 %address to ptr
  call i32 %yield()
  ret i64 %spun
}

define internal i64 @count(i64 %value, i64 %tag) alwaysinline {
  %run = and i64 %value, -4294967296
  %now = icmp eq i64 %run, %tag
  %low = and i64 %value, 4294967295
  %count = select i1 %now, i64 %low, i64 0
  ret i64 %count
}

define internal void @share(ptr %control, i64 %thread, ptr %times) {
  %sum = alloca i64
  %threads = call i64 @word(ptr %control, i64 <THREADS>)
  %steps = call i64 @word(ptr %control, i64 <STEPS>)
  %spins = call i64 @word(ptr %control, i64 <BARRIER_SPINS>)
  %tag = call i64 @word(ptr %control, i64 <TAG>)
  %pitch = call i64 @word(ptr %control, i64 <OWN>)
  %own = mul i64 %thread, %pitch
  %table_address = call i64 @word(ptr %control, i64 <TABLE>)
  %table = inttoptr i64 %table_address to ptr
  %counters_address = call i64 @word(ptr %control, i64 <COUNTERS>)
  %counters = inttoptr i64 %counters_address to ptr
  %places = add i64 %threads, 1
  %stride = mul i64 %places, <LINE>
  call void @stamp(ptr %control, ptr %times, i64 0)
  %empty_table = icmp eq i64 %steps, 0
  br i1 %empty_table, label %done, label %step
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
  %nothing = icmp eq i64 %units, 0
  br i1 %nothing, label %met, label %some
some:
  %alone = icmp eq i64 %threads, 1
  br i1 %alone, label %whole, label %several
whole:
  call void %function(ptr %args, i64 0, i64 %units, i64 0)
  br label %met
several:
  %first = mul i64 %index, %stride
  %lines = getelementptr i64, ptr %counters, i64 %first
  %fixed = icmp ne i64 %given, 0
  store i64 0, ptr %sum
  br label %owner
owner:
  %turn = phi i64 [ 0, %several ], [ %turned, %exhausted ]
  %turned = add i64 %turn, 1
  %place = add i64 %thread, %turn
  %whose = urem i64 %place, %threads
  %next = add i64 %whose, 1
  %low = mul i64 %units, %whose
  %high = mul i64 %units, %next
  %begin = udiv i64 %low, %threads
  %end = udiv i64 %high, %threads
  %length = sub i64 %end, %begin
  %line = mul i64 %whose, <LINE>
  %claims = getelementptr i64, ptr %lines, i64 %line
  br label %take
take:
  %seen = load atomic i64, ptr %claims monotonic, align 8
  %taken = call i64 @count(i64 %seen, i64 %tag)
  %left = sub i64 %length, %taken
  %empty = icmp eq i64 %left, 0
  br i1 %empty, label %exhausted, label %claim
claim:
  %spare = add i64 %left, <ROUND_UP>
  %part = udiv i64 %spare, <PARTS>
  %grain = select i1 %fixed, i64 %given, i64 %part
  %short = icmp ult i64 %left, %grain
  %amount = select i1 %short, i64 %left, i64 %grain
  %more = add i64 %taken, %amount
  %tagged = or i64 %tag, %more
  %swap = cmpxchg ptr %claims, i64 %seen, i64 %tagged monotonic monotonic
  %mine = extractvalue { i64, i1 } %swap, 1
  br i1 %mine, label %work, label %take
work:
  %from = add i64 %begin, %taken
  %to = add i64 %begin, %more
  call void %function(ptr %args, i64 %from, i64 %to, i64 %own)
  %before = load i64, ptr %sum
  %after = add i64 %before, %amount
  store i64 %after, ptr %sum
  br label %take
exhausted:
  %others = icmp ult i64 %turned, %threads
  br i1 %others, label %owner, label %report
report:
  %last_line = mul i64 %threads, <LINE>
  %finished = getelementptr i64, ptr %lines, i64 %last_line
  %goal = or i64 %tag, %units
  %done_here = load i64, ptr %sum
  %idle = icmp eq i64 %done_here, 0
  br i1 %idle, label %wait, label %add
add:
  %old = load atomic i64, ptr %finished monotonic, align 8
  %so_far = call i64 @count(i64 %old, i64 %tag)
  %total = add i64 %so_far, %done_here
  %new = or i64 %tag, %total
  %put = cmpxchg ptr %finished, i64 %old, i64 %new acq_rel monotonic
  %was_put = extractvalue { i64, i1 } %put, 1
  br i1 %was_put, label %wait, label %add
wait:
  %spun = phi i64 [ 0, %report ], [ 0, %add ], [ %again, %again_block ]
  %now = load atomic i64, ptr %finished acquire, align 8
  %complete = icmp eq i64 %now, %goal
  br i1 %complete, label %met, label %again_block
again_block:
  %again = call i64 @rest(ptr %control, i64 %spun, i64 %spins)
  br label %wait
met:
  call void @stamp(ptr %control, ptr %times, i64 %following)
  %last = icmp eq i64 %following, %steps
  br i1 %last, label %done, label %step
done:
  ret void
}

define internal void @bind(ptr %job) {
  %list_address = call i64 @word(ptr %job, i64 <BINDINGS>)
  %list = inttoptr i64 %list_address to ptr
  %count = call i64 @word(ptr %job, i64 <COUNT>)
  %member = call i64 @word(ptr %job, i64 <MEMBER>)
  br label %head
head:
  %index = phi i64 [ 0, %0 ], [ %next, %body ]
  %more = icmp ult i64 %index, %count
  br i1 %more, label %body, label %done
body:
  %place = mul i64 %index, <BINDING_WORDS>
  %binding = getelementptr i64, ptr %list, i64 %place
  %where_address = call i64 @word(ptr %binding, i64 0)
  %where = inttoptr i64 %where_address to ptr
  %array_address = call i64 @word(ptr %binding, i64 1)
  %array_at = inttoptr i64 %array_address to ptr
  %array = load ptr, ptr %array_at
  %data_at = getelementptr i8, ptr %array, i64 %member
  %data = load i64, ptr %data_at
  %offset = call i64 @word(ptr %binding, i64 2)
  %address = add i64 %data, %offset
  store i64 %address, ptr %where
  %next = add i64 %index, 1
  br label %head
done:
  ret void
}

define internal i64 @moved(ptr %control) {
  %address = call i64 @word(ptr %control, i64 <GET_CPU>)
  %unknown = icmp eq i64 %address, 0
  br i1 %unknown, label %no, label %ask
ask:
  %get = inttoptr i64 %address to ptr
  %cpu = call i32 %get()
  %here = sext i32 %cpu to i64
  %avoided = call i64 @word(ptr %control, i64 <AVOIDED>)
  %other = icmp ne i64 %here, %avoided
  %answer = select i1 %other, i64 <MOVED>, i64 0
  ret i64 %answer
no:
  ret i64 0
}

define internal void @member(ptr %control) {
  %ticket_at = getelementptr i64, ptr %control, i64 <TICKET>
  %ticket = atomicrmw add ptr %ticket_at, i64 1 acq_rel
  %threads = call i64 @word(ptr %control, i64 <THREADS>)
  %counted = icmp ult i64 %ticket, %threads
  br i1 %counted, label %work, label %done
work:
  %times_address = call i64 @word(ptr %control, i64 <TIMES>)
  %first = icmp eq i64 %ticket, 0
  %wanted = select i1 %first, i64 %times_address, i64 0
  %times = inttoptr i64 %wanted to ptr
  call void @share(ptr %control, i64 %ticket, ptr %times)
  br label %done
done:
  ret void
}

define internal i64 @run(ptr %control, ptr %job) {
  %epoch = getelementptr i64, ptr %control, i64 <EPOCH>
  %threads = call i64 @word(ptr %control, i64 <THREADS>)
  %post_address = call i64 @word(ptr %control, i64 <POST>)
  %post = inttoptr i64 %post_address to ptr
  %active = getelementptr i64, ptr %control, i64 <ACTIVE>
  %open = getelementptr i64, ptr %control, i64 <OPEN>
  %tag_at = getelementptr i64, ptr %control, i64 <TAG>
  %spins = call i64 @word(ptr %control, i64 <BARRIER_SPINS>)
  %steps = call i64 @word(ptr %job, i64 <JOB_STEPS>)
  %room = call i64 @word(ptr %control, i64 <ROOM_STEPS>)
  %fits = icmp ule i64 %steps, %room
  br i1 %fits, label %begin, label %crowded
crowded:
  ret i64 <CROWDED>
begin:
  call void @bind(ptr %job)
  %table = call i64 @word(ptr %job, i64 <JOB_TABLE>)
  %times_address = call i64 @word(ptr %job, i64 <JOB_TIMES>)
  %table_at = getelementptr i64, ptr %control, i64 <TABLE>
  %steps_at = getelementptr i64, ptr %control, i64 <STEPS>
  store i64 %table, ptr %table_at
  store i64 %steps, ptr %steps_at
  %pitch = call i64 @word(ptr %job, i64 <JOB_OWN>)
  %pitch_at = getelementptr i64, ptr %control, i64 <OWN>
  store i64 %pitch, ptr %pitch_at
  %before = load atomic i64, ptr %epoch monotonic, align 8
  %number = add i64 %before, 1
  %tag = shl i64 %number, 32
  store i64 %tag, ptr %tag_at
  %lent_address = call i64 @word(ptr %control, i64 <PARALLEL>)
  %lent = inttoptr i64 %lent_address to ptr
  %own = icmp eq ptr %lent, null
  br i1 %own, label %publish, label %borrow
borrow:
  store atomic i64 %number, ptr %epoch monotonic, align 8
  %times_at = getelementptr i64, ptr %control, i64 <TIMES>
  store i64 %times_address, ptr %times_at
  %ticket = getelementptr i64, ptr %control, i64 <TICKET>
  store atomic i64 0, ptr %ticket monotonic, align 8
  %members = trunc i64 %threads to i32
  call void %lent(ptr @member, ptr %control, i32 %members, i32 0)
  ret i64 0
publish:
  store atomic i64 %number, ptr %open seq_cst, align 8
  store atomic i64 %number, ptr %epoch seq_cst, align 8
  br label %look
look:
  %thread = phi i64 [ 1, %publish ], [ %next, %looked ]
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
  %times = inttoptr i64 %times_address to ptr
  call void @share(ptr %control, i64 0, ptr %times)
  store atomic i64 0, ptr %open seq_cst, align 8
  br label %leaving
leaving:
  %spun = phi i64 [ 0, %go ], [ %again, %stay ]
  %inside = load atomic i64, ptr %active seq_cst, align 8
  %left = icmp eq i64 %inside, 0
  br i1 %left, label %done, label %stay
stay:
  %again = call i64 @rest(ptr %control, i64 %spun, i64 %spins)
  br label %leaving
done:
  %answer = call i64 @moved(ptr %control)
  ret i64 %answer
}

define internal void @serve(ptr %control, i64 %thread) {
  %active = getelementptr i64, ptr %control, i64 <ACTIVE>
  %open = getelementptr i64, ptr %control, i64 <OPEN>
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
  atomicrmw add ptr %active, i64 1 seq_cst
  %stop = call i64 @word(ptr %control, i64 <STOP>)
  %stopped = icmp ne i64 %stop, 0
  br i1 %stopped, label %leave, label %join
join:
  %run = load atomic i64, ptr %open seq_cst, align 8
  %opened = icmp eq i64 %run, %now
  br i1 %opened, label %work, label %worked
work:
  call void @share(ptr %control, i64 %thread, ptr null)
  br label %worked
worked:
  atomicrmw sub ptr %active, i64 1 seq_cst
  br label %idle
leave:
  atomicrmw sub ptr %active, i64 1 seq_cst
  br label %done
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

define i64 @<NAME>(ptr %control, i64 %thread, i64 %what) {
  %measures = icmp slt i64 %thread, 0
  br i1 %measures, label %pauses, label %role
pauses:
  call void @linger(i64 %what)
  ret i64 0
role:
  %serves = icmp sgt i64 %thread, 0
  br i1 %serves, label %worker, label %caller
worker:
  call void @serve(ptr %control, i64 %thread)
  ret i64 0
caller:
  %job = inttoptr i64 %what to ptr
  %answer = call i64 @run(ptr %control, ptr %job)
  ret i64 %answer
}
"""
