//! The simulated world around the real cores: network, stores, engines, clients, all from one seed; it never touches a real disk or clock.
