"""The form field of a schedule: a choice that a person understands, stored as a crontab with its time zone.

    class PolicyForm(ScheduleForm[ArchivePolicy]):
        schedule = ScheduleField(empty="As soon as rendered")

A crontab that is not hourly, daily or weekly is shown and kept as an expression.
"""

from typing import Any, TypeVar, cast
from zoneinfo import ZoneInfo, available_timezones

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule

from anaphora.deliveries import schedules
from anaphora.deliveries.schedules import CRON_FIELDS, WEEKDAYS

T = TypeVar("T", bound=Model)

PARTS = ["when", "minute", "weekday", "time", "expression", "zone"]
DEFAULTS = {"when": "", "minute": "0", "weekday": "1", "time": "06:00", "expression": "0 6 * * *"}
NEXT_RUNS = 3


def parts_of(schedule: CrontabSchedule | None) -> dict[str, str]:
    """Return the parts of the field that describe a schedule."""
    parts = DEFAULTS | {"zone": settings.TIME_ZONE}
    if schedule is None:
        return parts
    minute, hour, day, month, weekday = schedules.cron_fields(schedule)
    parts |= {"zone": str(schedule.timezone), "expression": f"{minute} {hour} {day} {month} {weekday}"}
    kind = schedules.kind(schedule)
    parts["when"] = kind
    if kind == "hourly":
        parts["minute"] = minute
    if kind in {"daily", "weekly"}:
        parts["time"] = f"{int(hour):02}:{int(minute):02}"
    if kind == "weekly":
        parts["weekday"] = str(int(weekday) % 7)
    return parts


class ScheduleWidget(forms.MultiWidget):
    """Radio buttons for the kind of schedule, and the fields of each kind. A style sheet hides those of other kinds."""

    template_name = "widgets/schedule.html"
    use_fieldset = True

    class Media:
        js = ("anaphora/schedule.js",)

    def decompress(self, value: Any) -> list[str]:
        parts = parts_of(value)
        return [parts[name] for name in PARTS]

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        """Add the parts by name, and the next runs of the value, which work without JavaScript."""
        context = super().get_context(name, value, attrs)
        parts = dict(zip(PARTS, context["widget"]["subwidgets"], strict=True))
        typed = value if isinstance(value, list) else self.decompress(value)
        context["parts"] = parts
        context["preview"] = preview(dict(zip(PARTS, typed, strict=True)))
        context["url"] = reverse("admin:deliveries_archivepolicy_next_runs")
        return context


class ScheduleField(forms.MultiValueField):
    """A schedule, or None for `empty`. The value is a CrontabSchedule that is not saved: see ScheduleForm."""

    def __init__(self, *, empty: str, **kwargs: Any) -> None:
        kinds = [
            ("", empty),
            ("hourly", "Every hour"),
            ("daily", "Daily"),
            ("weekly", "Weekly"),
            ("crontab", "Crontab expression"),
        ]
        weekdays = [(str(number), WEEKDAYS[number]) for number in (1, 2, 3, 4, 5, 6, 0)]
        zones = [(name, name) for name in sorted(available_timezones() | {settings.TIME_ZONE})]
        fields = [
            forms.ChoiceField(choices=kinds, required=False, widget=forms.RadioSelect),
            forms.IntegerField(min_value=0, max_value=59, required=False),
            forms.ChoiceField(choices=weekdays, required=False),
            forms.TimeField(required=False, widget=forms.TimeInput(format="%H:%M", attrs={"type": "time"})),
            forms.CharField(required=False, max_length=200, widget=forms.TextInput(attrs={"class": "vTextField"})),
            forms.ChoiceField(choices=zones, required=False),
        ]
        widget = ScheduleWidget(
            {name: cast("forms.Widget", each.widget) for name, each in zip(PARTS, fields, strict=True)}
        )
        super().__init__(fields=fields, require_all_fields=False, required=False, widget=widget, **kwargs)

    def compress(self, data_list: Any) -> CrontabSchedule | None:
        """Return the schedule that the parts describe. Raises ValidationError, which names the part."""
        parts = dict(zip(PARTS, data_list or [None] * len(PARTS), strict=True))
        kind = parts["when"]
        if not kind:
            return None
        values = dict(zip(CRON_FIELDS, self._cron_fields(kind, parts), strict=True))
        schedule = CrontabSchedule(timezone=ZoneInfo(parts["zone"] or settings.TIME_ZONE), **values)
        try:
            schedule.clean_fields()
        except ValidationError as error:
            wrong = ", ".join(name.replace("_", " ") for name in CRON_FIELDS if name in error.message_dict)
            raise ValidationError(f"Crontab expression: correct its {wrong}. {EXPRESSION_HELP}") from error
        if schedules.next_run(schedule, timezone.now()) is None:
            raise ValidationError(
                "Crontab expression: there is no such date within eight years, so it would never run."
            )
        return schedule

    def _cron_fields(self, kind: str, parts: dict[str, Any]) -> list[str]:
        if kind == "hourly":
            if parts["minute"] is None:
                raise ValidationError("Minute: enter a number from 0 to 59.")
            return [str(parts["minute"]), "*", "*", "*", "*"]
        if kind == "crontab":
            fields = str(parts["expression"] or "").split()
            if len(fields) != len(CRON_FIELDS):
                raise ValidationError(f"Crontab expression: {EXPRESSION_HELP}")
            return fields
        if parts["time"] is None:
            raise ValidationError("Time: enter a time, for example 06:00.")
        weekday = parts["weekday"] or DEFAULTS["weekday"] if kind == "weekly" else "*"
        return [str(parts["time"].minute), str(parts["time"].hour), "*", "*", weekday]


EXPRESSION_HELP = (
    "Enter five fields, separated by spaces: minute, hour, day of month, month, day of week. Example: 0 6 * * 1-5."
)


class ScheduleForm(forms.ModelForm[T]):
    """A form with the field `schedule`. It reuses an existing equal schedule, and keeps one that was not changed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["schedule"] = cast("Any", self.instance).schedule

    def clean_schedule(self) -> CrontabSchedule | None:
        """Keep the present row if its meaning is unchanged: the same schedule can be written in several ways."""
        kept: CrontabSchedule | None = self.initial["schedule"]
        chosen: CrontabSchedule | None = self.cleaned_data["schedule"]
        if kept and chosen and parts_of(kept) == parts_of(chosen):
            return kept
        return chosen

    def save(self, commit: bool = True) -> T:  # noqa: FBT001, FBT002
        """Save the schedule first, unless an equal one exists."""
        schedule: CrontabSchedule | None = self.cleaned_data.get("schedule")
        if schedule is not None and schedule.pk is None:
            same = {name: getattr(schedule, name) for name in (*CRON_FIELDS, "timezone")}
            cast("Any", self.instance).schedule = CrontabSchedule.objects.filter(**same).first() or schedule
            cast("Any", self.instance).schedule.save()
        return super().save(commit)


def preview(parts: dict[str, Any]) -> dict[str, Any]:
    """Return the next runs of the described schedule in words, or the problem. Does not use the database."""
    field = ScheduleField(empty="")
    try:
        schedule = field.clean([parts.get(name) for name in PARTS])
    except ValidationError as error:
        return {"runs": [], "problem": " ".join(error.messages)}
    if schedule is None:
        return {"runs": [], "problem": ""}
    now = timezone.now()
    return {
        "runs": [schedules.in_words(run, schedule) for run in schedules.next_runs(schedule, now, NEXT_RUNS)],
        "problem": "",
    }
