//! Links, addresses, routes and nf_tables over netlink.
