"""What the person asks for while it trains, carried out between two steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine.data.serving.batches import Batches
from engine.errors import StudioError, TrainingError, first_line
from engine.insight.profiler import Profile
from engine.policies.parking import Parking
from engine.resuming.keeping import Keeper
from engine.resuming.state import TrainingState
from engine.runs.recorder import Recorder
from engine.training.clock import Clock
from engine.training.control import (
    CheckpointNow,
    Command,
    Control,
    ProfileNow,
    SetEpochs,
    SetLearningRate,
    SetWeightDecay,
    Stopped,
)


class Orders:
    """Obeys the control. `read` brings the losses so far to the recorder, `tell_length` how long the run is."""

    def __init__(
        self,
        state: TrainingState,
        control: Control,
        recorder: Recorder,
        keeper: Keeper,
        clock: Clock,
        batches: Sequence[Batches],
        *,
        read: Callable[[], None],
        tell_length: Callable[[], None],
    ) -> None:
        self._state, self._control, self._recorder, self._keeper = state, control, recorder, keeper
        self._clock, self._batches = clock, batches
        self._read, self._tell_length = read, tell_length
        self._profile: Profile | None = None
        self._profile_wanted = False

    def obey(self) -> None:
        """Do what the person asked for since the last time. Raises Stopped."""
        self._keeper.tell_written()
        if not self._control.pending:
            return
        self._carry_out()
        if self._control.paused and not self._control.stopping:
            self._pause()
        if self._control.stopping:
            raise Stopped

    def end_step(self) -> None:
        """A step is done: one more for a profile, if there is one, or the last before one begins."""
        self._keeper.tell_written()
        if self._profile is not None and self._profile.step():
            self._end_profile(self._profile)
        if self._profile_wanted and self._profile is None:
            self._begin_profile()

    def end_epoch(self) -> None:
        """What follows are no training steps: a profile has what it has."""
        if self._profile is not None:
            self._end_profile(self._profile)

    def close(self) -> None:
        """The run ends: a profile that is not complete is dropped."""
        if self._profile is not None:
            self._profile.cancel()
            self._profile = None

    def _carry_out(self) -> None:
        for command in self._control.take():
            try:
                self._do(command)
            except StudioError as error:
                self._event("trouble", f"{error} Nothing was changed.")

    def _do(self, command: Command) -> None:
        if self._state.closed:
            raise TrainingError("training", "the training is over, its best weights are being tested")
        optim = self._state.optim
        match command:
            case SetLearningRate(value):
                before = optim.learning_rate
                note = optim.set_learning_rate(value)
                self._changed("lr", f"learning rate {before:g} → {value:g}{note and f' ({note})'}")
                self._recorder.progress(learning_rate=optim.learning_rate)
            case SetWeightDecay(value):
                before = optim.weight_decay
                optim.set_weight_decay(value)
                self._changed("weight_decay", f"weight decay {before:g} → {value:g}")
                self._recorder.progress(weight_decay=optim.weight_decay)
            case SetEpochs(epochs):
                self._extend(epochs)
            case CheckpointNow():
                self._read()
                self._keeper.save_as_asked()
            case ProfileNow():
                self._profile_wanted = True

    def _extend(self, epochs: int) -> None:
        begun = self._state.at.epoch + 1
        if epochs < begun:
            raise TrainingError("training.epochs", f"epoch {begun} has begun already", f"Give at least {begun}.")
        before = self._state.epochs
        self._state.optim.extend(epochs)
        self._state.epochs = epochs
        self._tell_length()
        self._changed("epochs", f"epochs {before} → {epochs}")

    def _changed(self, kind: str, text: str) -> None:
        """Told and kept at once: going back to an earlier checkpoint must not take back what a person has set."""
        self._state.changed = True
        self._event(kind, text)
        self._read()
        self._keeper.save()

    def _event(self, kind: str, text: str) -> None:
        self._recorder.event(self._state.at.step, kind, text)

    def _pause(self) -> None:
        before = self._recorder.history.progress.state
        self._read()
        self._recorder.state("paused")
        self._event("pause", f"paused at step {self._state.at.step}")
        with self._clock.stopped():
            while self._waits():
                if self._control.parked:
                    self._park()
                else:
                    self._wait()
        if not self._control.stopping:
            self._event("resume", "training goes on")
            self._recorder.state(before)

    def _park(self) -> None:
        """Wait with the device's memory given back. Whoever has it now may keep it: then this waits on."""
        state = self._state
        self._keeper.save()
        modules = [state.model, *([state.average.model.module] if state.average is not None else [])]
        parking = Parking(state.device, modules, state.optim.optimizer, self._batches, state.splitter.moved)
        where = "all of it lies in host memory" if parking.leave() else f"{state.device} has nothing to give back"
        self._event("park", f"device memory: {where}")
        while True:
            while self._waits():
                self._wait()
            # A checkpoint can be taken from host memory as well: a stop needs no way back.
            if self._control.stopping or parking.come_back():
                return
            self._control.park()
            self._event("memory", f"{state.device} has no room for it now: it stays in host memory")

    def _wait(self) -> None:
        """Half a second of a pause, or until there is something to do."""
        self._control.wait(0.5)
        self._carry_out()
        self._keeper.tell_written()

    def _waits(self) -> bool:
        return self._control.paused and not self._control.stopping

    def _begin_profile(self) -> None:
        self._profile_wanted = False
        profile = Profile()
        try:
            profile.begin(self._state.at.step)
        except RuntimeError as error:  # another profiler is at work in this process
            self._event("trouble", f"the steps can't be profiled: {first_line(error)}")
            return
        self._profile = profile
        self._recorder.say("profiling the next steps")

    def _end_profile(self, profile: Profile) -> None:
        self._profile = None
        try:
            with self._clock.stopped():  # writing the trace takes longer than what is in it
                report = profile.finish(self._recorder.directory.path)
        except TrainingError as error:
            self._event("trouble", str(error))
            return
        for line in report.text.splitlines():
            self._recorder.say(line)
        self._event("profile", f"profiled up to step {self._state.at.step}; the trace is {report.trace}")
