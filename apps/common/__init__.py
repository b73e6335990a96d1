"""What a reader of an app would skip, in rooms: options, data, records, bundles, training, reports; above them `command`.

No room knows of those after it, and nothing here imports a backend when it is imported but `training` and `reports`.
"""
