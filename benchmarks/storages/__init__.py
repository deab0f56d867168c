"""Ways to keep attention maps, one file each; the file's name is how the results call it.

    LABEL                                    what it is, in the table
    write(path, maps)                        from (example, float16 maps (layer, head, L, L)) pairs
    open(path)                               what a session holds: whatever need not be read again
    one_head(opened, layer, head)            sum of that head's weights over all inputs
    one_map(opened, example, layer, head)    sum of one map, its weights in memory as an array
    per_head(opened)                         mean weight of every head, in order, a flat list

Each reads as well as its format allows: only the bytes that a question needs, where it can.
"""
