"""Layer 2: joins policy, store, transport and providers into ingest and workers."""
