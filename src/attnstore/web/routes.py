"""The explorer's addresses: a new page is a line here, its function and its template."""

from __future__ import annotations

from attnstore.web import (
    alike_page,
    collection_pages,
    compare_maps,
    compare_page,
    example_page,
    find_page,
    grid_files,
    head_near,
    head_page,
    head_relations,
    map_data,
    map_table,
    mean_maps,
    mean_maps_files,
    run_page,
    sql_page,
    store_page,
)
from attnstore.web.routing import Action, Page

_RUN = "/run/{model}/{dataset}"
_MAPS = "/maps/{model}/{dataset}/{example}"
_QUESTION = "/questions/{question}"

ROUTES: tuple[Page | Action, ...] = (
    Page("/", store_page.store_page, "Store", "s"),
    Page("/model/{model}", collection_pages.model_page),
    Page("/dataset/{dataset}", collection_pages.dataset_page),
    Page("/run", run_page.to_run),
    Page(_RUN, run_page.run_page),
    Page(f"{_RUN}/grid", run_page.grid_panel),
    Page(f"{_RUN}/mean-maps.png", mean_maps.picture),
    Page(f"{_RUN}/mean-maps.svg", mean_maps_files.picture),
    Page(f"{_RUN}/mean-maps.csv", mean_maps_files.table),
    Page(f"{_RUN}/grid.svg", grid_files.picture),
    Page(f"{_RUN}/grid.csv", grid_files.table),
    Page(f"{_RUN}/linked", run_page.pictures),
    Page(f"{_RUN}/head/{{layer}}/{{head}}", head_page.head_page),
    Page(f"{_RUN}/head/{{layer}}/{{head}}/alike", alike_page.alike_page),
    Page(f"{_RUN}/head/{{layer}}/{{head}}/alike/answers", alike_page.alike_panel),
    Page(f"{_RUN}/features/{{layer}}/{{head}}", head_page.features_panel),
    Page(f"{_RUN}/relations/{{layer}}/{{head}}", head_relations.relations_panel),
    Page(f"{_RUN}/kin/{{layer}}/{{head}}", head_page.kin_panel),
    Page(f"{_RUN}/near/{{layer}}/{{head}}", head_near.near_panel),
    Page(f"{_RUN}/example/{{example}}", example_page.example_page),
    Page("/compare", compare_page.compare_page, "Compare", "c"),
    Page("/compare/head/{layer}/{head}", compare_page.compare_page),
    Page("/compare/movement", compare_page.movement_panel),
    Page("/compare/shares", compare_page.shares_panel),
    Page(f"{_MAPS}/{{layer}}/{{head}}/difference.png", compare_maps.difference_picture),
    Page(f"{_MAPS}/all", map_data.overview),
    Page(f"{_MAPS}/all.csv", map_table.table),
    Page(f"{_MAPS}/{{layer}}/{{head}}.png", map_data.map_picture),
    Page(f"{_MAPS}/{{layer}}/{{head}}", map_data.one_map),
    Page("/find", find_page.find_page),
    Page("/sql", sql_page.sql_page, "SQL", "q"),
    Action("/questions", sql_page.ask),
    Page(_QUESTION, sql_page.follow),
    Page(_QUESTION, sql_page.cancel, method="DELETE"),
    Page(f"{_QUESTION}/table", sql_page.table),
    Page(f"{_QUESTION}/chart", sql_page.chart),
    Page(f"{_QUESTION}/rows", find_page.rows),
    Page(f"{_QUESTION}/{{file}}", sql_page.download),
)
