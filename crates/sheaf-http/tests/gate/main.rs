//! A gate's HTTP surface, asked as clients, routers, coordinators and other gates ask it.

mod data;
mod migration;
mod peers;
mod world;
