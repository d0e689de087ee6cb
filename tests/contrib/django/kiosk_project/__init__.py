import importlib.util

if importlib.util.find_spec("MySQLdb") is None and importlib.util.find_spec("pymysql") is not None:
    import pymysql

    pymysql.version_info = (2, 2, 8, "final", 0)  # as Django asks for mysqlclient
    pymysql.install_as_MySQLdb()
