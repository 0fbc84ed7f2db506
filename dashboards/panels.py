"""How panels look, and what none may lack: a unit, a description, a word for when there is nothing, a runbook."""

from dataclasses import dataclass, field

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import (
    GraphDrawStyle,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Panel,
    Threshold,
    ThresholdsMode,
    VariableHide,
    VariableModel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

TAG = "authly"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
# Where Prometheus serves the runbooks (docs/runbooks/README.md).
RUNBOOKS = "http://127.0.0.1:9090/user/runbooks"
WIDTH = 24


@dataclass(frozen=True)
class Query:
    """A question to Prometheus.

    Args:
        expression: in PromQL.
        legend: what its series are called; Grafana's ``{{label}}`` is replaced.
    """

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Words:
    """What a panel tells people.

    Args:
        title: what is shown.
        description: what it means, and when to worry.
        runbook: the page of runbooks to read on, with an anchor if there is one.
        nothing: what is said where there are no series.
    """

    title: str
    description: str
    runbook: str
    nothing: str = "Nothing was measured in this time"


@dataclass(frozen=True)
class Look:
    """How a panel shows its numbers.

    Args:
        unit: as Grafana calls it: s, bytes, percentunit, reqps, short.
        width: of 24.
        stacked: whether series are put on top of each other.
        bars: whether each point is a bar of its own.
        most: the end of the scale, if it has one.
        warning: the number from which on it is yellow; below which, if `alarm` is less.
        alarm: the number from which on it is red.
    """

    unit: str
    width: int = 8
    stacked: bool = False
    bars: bool = False
    most: float | None = None
    warning: float | None = None
    alarm: float | None = None

    def thresholds(self) -> dashboard.ThresholdsConfig:
        """Return the colours."""
        steps = [Threshold(color="green")]
        if self.warning is not None and self.alarm is not None:
            if self.alarm < self.warning:
                steps = [
                    Threshold(color="red"),
                    Threshold(color="yellow", value=self.alarm),
                    Threshold(color="green", value=self.warning),
                ]
            else:
                steps += [Threshold(color="yellow", value=self.warning), Threshold(color="red", value=self.alarm)]
        return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def graph(words: Words, look: Look, *queries: Query) -> Builder[Panel]:
    """Return a panel of lines over time."""
    panel = (
        timeseries.Panel()
        .draw_style(GraphDrawStyle.BARS if look.bars else GraphDrawStyle.LINE)
        .fill_opacity(80 if look.bars else 25 if look.stacked else 8)
        .line_width(1)
        # A line that a scrape misses is not a line that is broken.
        .span_nulls(60_000)
        .min(0)
        .thresholds(look.thresholds())
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if look.stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    if look.most is not None:
        panel = panel.max(look.most)
    if look.alarm is not None:
        # Otherwise nobody sees them on a graph.
        panel = panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    panel = panel.height(8).span(look.width).title(words.title).description(words.description).unit(look.unit)
    panel = panel.no_value(words.nothing).datasource(SOURCE).links([_link(words)])
    for number, query in enumerate(queries):
        panel = panel.with_target(_target(query, number))
    return panel


def number(words: Words, look: Look, query: Query) -> Builder[Panel]:
    """Return a panel of one large number, with its course behind it."""
    panel = stat.Panel().thresholds(look.thresholds())
    panel = panel.height(4).span(look.width).title(words.title).description(words.description).unit(look.unit)
    return panel.no_value(words.nothing).datasource(SOURCE).links([_link(words)]).with_target(_target(query, 0))


def bars(words: Words, look: Look, *queries: Query) -> Builder[Panel]:
    """Return a panel of bars, one for each series, as it is at the end of the time."""
    panel = bargauge.Panel().min(0).thresholds(look.thresholds())
    panel = panel.height(8).span(look.width).title(words.title).description(words.description).unit(look.unit)
    panel = panel.no_value(words.nothing).datasource(SOURCE).links([_link(words)])
    for number_, query in enumerate(queries):
        panel = panel.with_target(_target(query, number_).instant())
    return panel


def listing(words: Words, look: Look, query: Query) -> Builder[Panel]:
    """Return a table of labels, as they are at the end of the time."""
    panel = table.Panel().height(8).span(look.width).title(words.title).description(words.description)
    panel = panel.unit(look.unit).no_value(words.nothing).datasource(SOURCE).links([_link(words)])
    return panel.with_target(_target(query, 0).format(PromQueryFormat.TABLE).instant())


@dataclass
class Board:
    """A dashboard in the making.

    Args:
        name: its uid, and the name of its file.
        title: what it is called.
        description: for whom it is.
    """

    name: str
    title: str
    description: str
    _rows: list[tuple[str, tuple[Builder[Panel], ...]]] = field(default_factory=list)

    def row(self, title: str, *panels: Builder[Panel]) -> "Board":
        """Add panels under a heading."""
        self._rows.append((title, panels))
        return self

    def build(self) -> Dashboard:
        """Return the dashboard with what all of them have: variables, annotations, links to each other."""
        board = (
            dashboard.Dashboard(self.title)
            .uid(self.name)
            .description(self.description)
            .tags([TAG])
            .readonly()
            .tooltip(DashboardCursorSync.CROSSHAIR)
            .time("now-1h", "now")
            .refresh("30s")
            .timezone("browser")
            .variables(_variables())
            .annotation(
                _annotation("Starts", "blue", 'changes(authly_start_time_seconds{instance=~"$instance"}[1m]) > 0')
            )
            .annotation(
                _annotation("Reloads", "purple", 'increase(gunicorn_reloads_total{instance=~"$instance"}[1m]) > 0')
            )
            .link(
                dashboard.DashboardLink("Authly")
                .type(DashboardLinkType.DASHBOARDS)
                .tags([TAG])
                .include_vars(True)
                .keep_time(True)
            )
            .link(
                dashboard.DashboardLink("Runbooks")
                .type(DashboardLinkType.LINK)
                .icon("doc")
                .url("${runbooks}/README.md")
                .target_blank(True)
            )
        )
        for title, panels in self._rows:
            board = board.with_row(dashboard.Row(title))
            for panel in panels:
                board = board.with_panel(panel)
        made = board.build()
        for place, placed in enumerate(made.panels or [], start=1):
            placed.id_val = place
        for variable in made.templating.list_val or []:
            if variable.name == "runbooks":
                variable.hide = VariableHide.HIDE_VARIABLE
        return made


def _target(query: Query, number: int) -> prometheus.Dataquery:
    target = prometheus.Dataquery().ref_id("ABCDEFGH"[number]).expr(query.expression).datasource(SOURCE)
    return target.legend_format(query.legend) if query.legend else target


def _link(words: Words) -> dashboard.DashboardLink:
    link = dashboard.DashboardLink("Runbook").type(DashboardLinkType.LINK)
    page, _, anchor = words.runbook.partition("#")
    return link.url(f"${{runbooks}}/{page}.md{f'#{anchor}' if anchor else ''}").target_blank(True)


def _annotation(name: str, color: str, expression: str) -> dashboard.AnnotationQuery:
    return dashboard.AnnotationQuery().name(name).datasource(SOURCE).enable(True).icon_color(color).expr(expression)


def _variables() -> list[Builder[VariableModel]]:
    def asked(name: str, label: str, query: str) -> dashboard.QueryVariable:
        return (
            dashboard.QueryVariable(name)
            .label(label)
            .datasource(SOURCE)
            .query(query)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .all_value(".*")
            .current(VariableOption(text="All", value="$__all"))
        )

    return [
        dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"),
        asked("instance", "Instance", "label_values(authly_exporter_build_info, instance)"),
        asked("endpoint", "Endpoint", 'label_values(authly_http_requests_total{instance=~"$instance"}, endpoint)'),
        dashboard.CustomVariable("percentile")
        .label("Percentile")
        .values("50 % : 0.5, 90 % : 0.9, 95 % : 0.95, 99 % : 0.99")
        .current(VariableOption(text="95 %", value="0.95")),
        dashboard.ConstantVariable("runbooks").value(RUNBOOKS),
    ]
